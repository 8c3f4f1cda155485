"""How a page looks: light and dark, on a wide screen, on a phone and on paper."""

from dao.learner.experiment.pages.colours import DARK, LIGHT, declared

__all__ = ["CSS", "POLICY"]

# A page fetches nothing and runs nothing, whatever is in the data.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
CSS = (
    f"""
:root {{ {declared(LIGHT)} }}
@media (prefers-color-scheme: dark) {{ :root {{ {declared(DARK)} }} }}
"""
    + """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1b1b1f; --soft: #55555c;
  --grid: #c4c4c9; --line: #dcdce0; --band: #f4f4f6; --link: #005a96; --mark: #b84a00;
  --font: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
@media (prefers-color-scheme: dark) { :root { --paper: #16171a; --ink: #ececf0; --soft: #a9a9b2;
  --grid: #45464d; --line: #37383e; --band: #1f2024; --link: #7cc4f5; --mark: #ff9a52; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem clamp(.9rem, 3vw, 2.5rem) 4rem; max-width: 78rem;
  background: var(--paper); color: var(--ink); font: 1rem/1.5 var(--font);
  overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; padding-top: .75rem;
  border-top: 1px solid var(--line); }
p, ul { max-width: 48rem; margin: .5rem 0; }
ul { padding-left: 1.2rem; }
a { color: var(--link); }
nav { font-size: .875rem; color: var(--soft); }
nav a { display: inline-block; padding: .3rem .8rem .3rem 0; }
.answer { font-size: 1.1875rem; line-height: 1.45; margin: .25rem 0 .75rem; }
.mark { border-left: .25rem solid var(--mark); padding-left: .7rem; }
summary { cursor: pointer; padding: .35rem 0; min-height: 1.75rem; }
summary h2 { display: inline; padding: 0; border: 0; }
summary:hover { color: var(--ink); }
:is(summary, a):focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
.whole { margin: 1.25rem 0 0; border-top: 1px solid var(--line); padding-top: .5rem; }
details[open] > summary { margin-bottom: .25rem; }
dl { max-width: 48rem; margin: .25rem 0 .75rem; font-size: .9375rem; }
dt { font-weight: 600; }
dd { margin: 0 0 .5rem 0; }
.note, figcaption, caption, summary { color: var(--soft); font-size: .875rem; }
figure { margin: 1rem 0; }
figcaption { max-width: 48rem; }
.panels { display: grid; gap: 1.25rem 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 20.5rem), 1fr)); }
.panels.two { grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr)); }
.panels svg { display: block; width: 100%; max-width: 31rem; height: auto; }
.picture { background: #ffffff; border-radius: 6px; padding: .5rem; }
.picture img { display: block; width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 1.5rem; font-size: .8125rem;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .4rem; }
th, td { padding: .35rem .4rem; text-align: right; vertical-align: top; overflow-wrap: normal;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
thead th { vertical-align: bottom; color: var(--soft); }
th:first-child { min-width: 9.5rem; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; padding-left: 0; }
tbody tr:hover { background: var(--band); }
.words th, .words td { text-align: left; overflow-wrap: anywhere; }
@media (max-width: 70rem) {
  .many thead { position: absolute; clip-path: inset(50%); width: 1px; height: 1px;
    overflow: hidden; }
  table { font-size: .875rem; }
  .many, .many :is(caption, tbody, tr, th, td) { display: block; }
  .many tr { padding: .5rem 0; border-bottom: 1px solid var(--line); }
  .many tbody th, .many td { border: 0; padding: .1rem 0; text-align: left;
    overflow-wrap: anywhere; }
  .many td { display: grid; grid-template-columns: minmax(7rem, 38%) 1fr; gap: .6rem; }
  .many td:empty { display: none; }
  .many td::before { content: attr(data-label); color: var(--soft); } }
@media print { details::details-content { content-visibility: visible; block-size: auto; }
  summary { list-style: none; } }
"""
)
