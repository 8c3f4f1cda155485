"""Formulas as MathML, by docutils: browsers draw it themselves, without scripts or a network."""

from html import escape

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util.logging import getLogger
from sphinx.writers.html5 import HTML5Translator

__all__ = ["setup"]


logger = getLogger(__name__)


def _drawn(node: nodes.math | nodes.math_block, *, as_block: bool) -> str:
    """The formula as MathML; as it was typed, with a warning, where docutils cannot read it."""
    formula = node.astext()
    try:
        drawn: str = tex2mathml(formula, as_block=as_block)
    except MathError as error:
        logger.warning("formula %r: %s", formula, error, location=node)
        return f"<code>{escape(formula)}</code>"
    return drawn


def _inline(page: HTML5Translator, node: nodes.math) -> None:
    page.body.append(_drawn(node, as_block=False))
    raise nodes.SkipNode


def _block(page: HTML5Translator, node: nodes.math_block) -> None:
    page.body.append(f'<div class="math">{_drawn(node, as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer under the name `mathml`."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
