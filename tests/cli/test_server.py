"""`dao serve` as a process, and its page in a browser."""

import contextlib
import csv
import io
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from dao.learner import load
from dao.learner.kinds.certainty.regions import in_one_cell
from tests.cli.served import HOST, at_a_port, service_of
from tests.experiment.test_report import CHROMIUM, FLAGS, TOO_WIDE

ROOT = Path(__file__).parents[2]
CLIENTS = 50
TEXTS = [f"the company said net profit rose in quarter {i}" for i in range(CLIENTS)]


@contextlib.contextmanager
def process(python: str, *arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`dao serve` and the address that it prints."""
    words = [python, "-m", "dao", "serve", *map(str, arguments), "--port", "0"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, cwd=ROOT, text=True, **pipes) as server:
        try:
            line = server.stdout.readline()
            assert line.startswith(f"ready at {HOST}:"), line + server.stderr.read()
            yield server, line.split()[2].removesuffix(";")
        finally:
            if server.poll() is None:
                server.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(60)
            server.kill()


@pytest.mark.slow
def test_fifty_clients_at_once_all_get_their_answers(warm_python: str, full_run: Path):
    model = load(full_run, device="cpu")
    wanted = {text: model.predict([text]) for text in TEXTS}
    with process(warm_python, full_run) as (server, url):

        def ask(text: str) -> list[dict[str, Any]]:
            with httpx2.Client(base_url=url, timeout=120) as client:
                answer = client.post("/predict", json={"texts": [text]})
                assert answer.status_code == 200, answer.text
                file = client.post(
                    "/predict/file", files={"file": ("a.csv", f"text\n{text}\n")},
                    params={"format": "json"},
                )  # fmt: skip
                assert file.status_code == 200, file.text
                assert file.json()["rows"][0]["cls"] == answer.json()["rows"][0]["cls"]
                return answer.json()["rows"]

        with ThreadPoolExecutor(CLIENTS) as clients:
            found = dict(zip(TEXTS, clients.map(ask, TEXTS), strict=True))
        for text, (row,) in found.items():
            assert row["cls"] == wanted[text][0]["cls"]
            assert row["reg"] == pytest.approx(wanted[text][0]["reg"], abs=1e-5)
        assert httpx2.get(f"{url}/health").json() == {"status": "ok", "waiting": 0}
        server.send_signal(signal.SIGINT)
        rest, said = server.communicate(timeout=60)
    assert server.returncode == 0
    assert rest == ""
    assert said == "stopped\n"


@pytest.mark.slow
def test_a_request_to_terminate_ends_it_as_ctrl_c_does(warm_python: str, full_run: Path):
    with process(warm_python, full_run) as (server, _):
        server.send_signal(signal.SIGTERM)
        _, said = server.communicate(timeout=60)
    assert (server.returncode, said) == (0, "stopped\n")


# -- in a browser ---------------------------------------------------------------------------------

in_a_browser = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
UNNAMED = """() => [...document.querySelectorAll('input, textarea, select')].filter(
    e => !e.labels.length).length"""
NASTY = '<img src=x onerror="alert(1)"> profit rose & fell'


class View:
    """A page of a browser, with what it said and asked for."""

    def __init__(self, browser: Any, url: str, width: int = 1280, scheme: str = "light") -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.url, self.width = url, width
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)
        self.page.wait_for_selector("#tasks .card")

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def ask(self, *texts: str) -> None:
        self.page.fill("#first", texts[0])
        if len(texts) > 1:
            self.page.fill("#second", texts[1])
        self.page.click("#ask")
        self.page.wait_for_selector("#results .card")

    def check(self) -> None:
        """Nothing was said, no other host was asked, everything fits."""
        assert self.said == []
        assert all(url.startswith((self.url, "blob:")) for url in self.asked), self.asked
        assert self.page.evaluate("document.documentElement.scrollWidth") <= self.width
        inside = TOO_WIDE.replace("body *", "body *:not(.skip):not(.scroll *):not(.sideways *)")
        assert self.page.evaluate(inside) == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as started:
        made = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield made
        made.close()


@pytest.fixture(scope="module")
def url(full_run: Path) -> Iterator[str]:
    with at_a_port(service_of(full_run)) as found:
        yield found


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
class TestPage:
    pytestmark = in_a_browser

    def test_texts_are_typed_and_answered(self, browser, url: str, full_run, width, scheme):
        view = View(browser, url, width, scheme)
        view.ask(NASTY)
        assert view.text("#results .quote") == NASTY
        (row,) = load(full_run, device="cpu").predict([NASTY])
        found = view.page.locator("#results .task")
        assert found.count() == 2
        assert found.nth(0).locator(".decision").inner_text() == row["cls"]
        assert found.nth(0).locator(".bars li").count() == 2
        share = max(row["cls_p_negative"], row["cls_p_positive"])
        assert found.nth(0).locator(".called .share").inner_text() == f"{100 * share:.0f} %"
        assert float(found.nth(1).locator(".decision").inner_text()) == pytest.approx(
            row["reg"], abs=0.006
        )
        assert view.text("#status") == "Answers to 1 text."
        view.check()
        dark = view.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (dark == "rgb(15, 17, 22)") == (scheme == "dark")

    def test_a_file_is_answered_and_downloaded(self, browser, url, tmp_path, width, scheme):
        view = View(browser, url, width, scheme)
        rows = [[i, f"net profit {'rose' if i % 2 else 'fell'}, {NASTY}"] for i in range(30)]
        with (tmp_path / "my.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["=id", "text"], *rows])
        view.page.set_input_files("#file", tmp_path / "my.csv")
        assert view.text("#chosen") == "my.csv"
        view.page.click("#send")
        view.page.wait_for_selector("#results table")
        assert view.text("#status") == "Answers to 30 rows of my.csv."
        assert view.page.locator("#results tbody tr").count() == 20
        heads = view.page.locator("#results thead th").all_inner_texts()
        assert heads == ["text", "cls", "reg", "=id"]
        caption = view.page.locator("#results .task .hint").first.inner_text()
        assert caption == "share of the 30 rows that were answered so"
        with view.page.expect_download() as waiting:
            view.page.click("#results button")
        assert waiting.value.suggested_filename == "my-predictions.csv"
        found = list(csv.reader(io.StringIO(Path(waiting.value.path()).read_text(), newline="")))
        assert len(found) == 31
        assert found[0][:3] == ["'=id", "text", "cls"]
        assert found[1][1] == rows[0][1]
        view.check()


class TestWhy:
    pytestmark = in_a_browser

    @pytest.mark.parametrize("width", [1280, 390])
    def test_tokens_are_marked_with_more_than_colour(self, browser, url: str, width: int):
        view = View(browser, url, width)
        view.ask("net profit rose")
        view.page.click("#results .task:first-child button.why")
        view.page.wait_for_selector("#results .tokens")
        words = [" ".join(word.split()) for word in view.text("#results .tokens").split(")")]
        assert words[0].startswith("net")
        marked = view.page.locator("#results .tokens .token")
        assert marked.count()
        for one in marked.all():
            assert one.get_attribute("title")[0] in "+\u2212"
            assert one.get_attribute("title") in one.text_content()
            line = one.evaluate("e => getComputedStyle(e).textDecorationStyle")
            assert line in ("solid", "dashed")
        assert view.page.locator("#results .legend").inner_text().startswith("speaks for")
        assert view.page.locator("#results .reasons tbody tr").count() == 3
        view.check()

    def test_without_explanations_there_is_no_button(self, browser, full_run: Path):
        with at_a_port(service_of(full_run, "merged")) as merged:
            view = View(browser, merged)
            view.ask("net profit rose")
            assert view.page.locator("button.why").count() == 0
            line = view.page.locator("#results > .hint").inner_text()
            assert line.startswith('Here is no button "Why?". Answers are explained by the engine')
            assert line.endswith("Start the server without --engine.")


class TestFile:
    pytestmark = in_a_browser

    @pytest.mark.parametrize("width", [1280, 390])
    def test_a_choice_waits_for_the_button_and_the_work_can_be_cancelled(
        self, browser, url: str, tmp_path: Path, width: int
    ):
        view = View(browser, url, width)
        held: list[Any] = []
        view.page.route("**/predict/file", lambda route: held.append(route))
        (tmp_path / "a.csv").write_text("text\nsales fell\n")
        view.page.set_input_files("#file", tmp_path / "a.csv")
        assert view.text("#chosen") == "a.csv"
        assert not view.page.is_visible("#cancel")
        view.page.wait_for_timeout(300)
        assert not held
        view.page.click("#send")
        view.page.wait_for_selector("#cancel", state="visible")
        view.page.locator("#send", has_text="At work … 1 s").wait_for()
        inside = """id => { const at = document.getElementById(id).getBoundingClientRect();
            return at.height > 0 && at.top >= 0 && at.bottom <= innerHeight; }"""
        assert view.page.evaluate(inside, "send")
        assert view.page.evaluate(inside, "cancel")
        view.check()
        view.page.click("#cancel")
        view.page.wait_for_selector("#cancel", state="hidden")
        assert view.text("#status").startswith("The request was cancelled. ")
        assert view.text("#upload-error") == ""
        assert view.text("#send") == "Ask about every row"
        assert view.page.is_enabled("#send")
        view.page.unroute("**/predict/file")
        view.page.click("#send")
        view.page.wait_for_selector("#results table")
        assert view.text("#status") == "Answers to 1 row of a.csv."


class TestQuality:
    pytestmark = in_a_browser

    @pytest.mark.parametrize("width", [1280, 390])
    def test_the_figures_are_told_as_they_are(self, browser, kinds_run: Path, width: int):
        service = service_of(kinds_run, coverage=0.9)
        tasks = service.said["tasks"]
        with at_a_port(service) as url:
            view = View(browser, url, width)
            assert "hold the truth for about" not in view.text(".quality")
            assert "were asked to hold the truth for 90 % of texts" in view.text("#trained")
            cards = view.page.locator("#tasks .card").all()
            for card, task in zip(cards, tasks.values(), strict=True):
                told = card.inner_text()
                assert task["coverage"] in told
                few = "So few test rows leave it uncertain what new texts get." in told
                assert few == ("reached" in task["coverage"] and task["tested_on"] < 200)
                assert card.locator(".beaten").all_inner_texts() == [task["not_beaten"]] * bool(
                    task["not_beaten"]
                )
            assert re.search(r"no \(\d+ training texts\), yes \(\d+\);", view.text("#tasks"))
            view.page.click(".meanings summary")
            words = view.page.locator("#words dt").all_inner_texts()
            assert {"ordinal", "Quadratic kappa", "PR-AUC", "unsure"} <= {*words}
            assert "unlike the training texts" in words
            assert view.page.locator("#words dd").count() == len(words) == len({*words})
            view.check()

    def test_every_kind_and_figure_has_a_meaning(self, browser, url: str):
        from dao.learner.kinds import KINDS

        page = View(browser, url).page
        assert page.evaluate("Object.keys(KINDS).sort()") == sorted(KINDS)
        for kind in KINDS.values():
            for figure in kind.own_figures:
                if figure.shown:
                    assert page.evaluate("key => meaningOf(key)", figure.key), figure.key

    def test_an_answer_that_a_threshold_decides_says_so(self, browser, url: str):
        page = View(browser, url).page
        told = "([task, answer, no, yes]) => unlikelier(task, answer, [['no', no], ['yes', yes]])"
        task = {"classes": ["no", "yes"], "threshold": 0.29683, "threshold_suits": "F1"}
        assert page.evaluate(told, [task, "yes", 0.53, 0.47]) == (
            "yes, because its probability reaches the threshold 29.7 %, which suits F1 on the "
            "validation rows"
        )
        assert page.evaluate(told, [task, "yes", 0.4, 0.6]) == ""
        assert page.evaluate(told, [task, "no", 0.8, 0.2]) == ""
        task |= {"threshold": 0.75, "threshold_suits": ""}
        assert page.evaluate(told, [task, "no", 0.4, 0.6]) == (
            "no, because the probability of yes is below the threshold 75 %"
        )
        assert page.evaluate(told, [task | {"threshold": None}, "no", 0.4, 0.6]) == ""


class TestWrong:
    pytestmark = in_a_browser

    def test_wrong_input_is_told_where_it_is(self, browser, url: str, tmp_path: Path):
        view = View(browser, url)
        view.page.click("#ask")
        view.page.wait_for_selector("#texts-error:not(:empty)")
        assert view.text("#texts-error") == "Type a text first."
        (tmp_path / "a.csv").write_text("id,body\n1,sales fell\n")
        view.page.set_input_files("#file", tmp_path / "a.csv")
        view.page.click("#send")
        view.page.wait_for_selector("#upload-error:not(:empty)")
        assert "`text` should be a column of a.csv. Found: id, body." in view.text("#upload-error")
        view.said.clear()  # Chromium tells of every answer that is an error
        view.page.fill("#column", "body")
        view.page.click("#send")
        view.page.wait_for_selector("#results table")
        assert view.text("#texts-error") == view.text("#upload-error") == ""
        view.check()

    def test_the_keyboard_does_all(self, browser, url: str):
        view = View(browser, url, 390)
        places = []
        for _ in range(9):
            view.page.keyboard.press("Tab")
            places.append(view.page.evaluate("document.activeElement.id"))
        assert places[:7] == ["", "first", "lines", "ask", "file", "", "send"]
        view.page.focus("#first")
        view.page.keyboard.type("sales fell")
        view.page.keyboard.press("Control+Enter")
        view.page.wait_for_selector("#results .card")
        view.check()

    def test_every_field_has_a_name_and_errors_are_announced(self, browser, url: str):
        view = View(browser, url)
        assert view.page.evaluate(UNNAMED) == 0
        assert view.page.get_attribute("#texts-error", "role") == "alert"
        assert view.page.get_attribute("#status", "aria-live") == "polite"

    def test_a_server_that_is_gone_is_told(self, browser, full_run: Path):
        with at_a_port(service_of(full_run)) as gone:
            view = View(browser, gone)
        view.page.fill("#first", "sales fell")
        view.page.click("#ask")
        view.page.wait_for_selector("#texts-error:not(:empty)")
        assert view.text("#texts-error") == "The server does not answer. Is it still running?"

    def test_sets_are_read_as_they_are_written(self, browser, url: str):
        page = View(browser, url).page
        page.evaluate("model = {tasks: {topic: {}, topic_set: {}}}")
        columns = "row => Object.keys(model.tasks).map(name => regionOf(name, '_set', row) || '')"
        row = {"topic": "a", "topic_set": "b"}
        assert page.evaluate(columns, row) == ["", ""]
        row |= {"topic_set_2": "a|b", "topic_set_set": "b"}
        assert page.evaluate(columns, row) == ["topic_set_2", "topic_set_set"]
        for classes in (["up", "flat"], ["a|b"], ["a|b", "c"], ["a\\b"]):
            assert page.evaluate("cell => classesOf(cell)", in_one_cell(classes)) == classes

    @pytest.mark.parametrize("width", [1280, 390])
    def test_pairs_intervals_sets_and_badges(self, browser, kinds_run: Path, width: int):
        """The columns of a coming version are put into real answers on their way to the page."""
        with at_a_port(service_of(kinds_run)) as url:
            view = View(browser, url, width)

            def more(route: Any) -> None:
                answer = route.fetch()
                found = answer.json()
                for row in found["rows"]:
                    row |= {"amount_low": row["amount"] - 0.25, "amount_high": row["amount"] + 0.5}
                    row |= {"area_set": "loss|profit", "stars_set": "2"}
                    row |= {"unsure": False, "unlike": True, "weight": 0.25}
                route.fulfill(response=answer, json=found)

            view.page.route("**/predict", more)
            view.ask("net profit", "rose sharply")
            tasks = dict(zip(view.page.locator("#results .task h3").all_inner_texts(),
                             view.page.locator("#results .task").all(), strict=True))  # fmt: skip
            assert [*tasks] == ["urgent", "area", "tags", "stars", "amount"]
            assert " between " in tasks["amount"].locator(".decision").inner_text()
            assert tasks["amount"].locator(".band").count() == 1
            assert tasks["area"].locator(".set b").all_inner_texts() == ["loss", "profit"]
            assert tasks["area"].locator(".set span").inner_text() == "unsure, one of"
            rule = tasks["urgent"].locator(".decision small").inner_text()
            assert re.fullmatch(r"\(yes from [\d.]+ %\)", rule.strip()), rule
            assert tasks["stars"].locator(".set").inner_text().split() == ["only", "2"]
            assert tasks["stars"].locator(".what").all_inner_texts() == ["1", "2", "3"]
            assert view.page.locator(".badge").all_inner_texts() == ["unlike the training texts"]
            assert view.text("#results .others") == "weight 0.25"
            assert view.page.locator(".quote").all_inner_texts() == ["net profit", "rose sharply"]
            view.check()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_the_requests_of_the_page_of_documentation_are_answered(full_run: Path, tmp_path: Path):
    from tests.cli.test_documents import PAGES, blocks

    shown = "\n".join(blocks(PAGES["serving"], "bash")).replace("\\\n", " ")
    lines = [line for line in shown.splitlines() if line.startswith("curl ")]
    assert len(lines) >= 3
    (tmp_path / "new.csv").write_text("id,text\n1,sales fell\n")
    with at_a_port(service_of(full_run)) as url:
        for line in lines:
            command = line.replace(f"{HOST}:8000", url).replace("curl ", "curl -sS --fail ", 1)
            subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True, timeout=60)
    assert "cls_p_positive" in (tmp_path / "predictions.csv").read_text()
