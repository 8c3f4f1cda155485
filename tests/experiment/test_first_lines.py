"""What stands before the tests: arms that a plain model beats, and what dendrites contribute."""

import pytest

from dao.learner.experiment.findings.comparable import check_comparable
from dao.learner.experiment.findings.effects import findings
from dao.learner.experiment.findings.runs import read_run
from dao.learner.experiment.report.report import write_report
from dao.learner.experiment.report.terminal import print_report
from tests.conftest import no_pictures

SHARES = {"a": [0.001], "b": [0.006], "c": [0.05]}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, make_arm):
    folder = tmp_path_factory.mktemp("experiment")
    for seed in (0, 1):
        grown = {"dendrites_kept": 1, "parameters_added": 50, "output_shares": SHARES}
        make_arm(folder, "base", seed, right=18 + seed, error=0.2)
        make_arm(folder, "dendrites", seed, right=30, error=0.7, dendrites=grown)
        make_arm(folder, "sham", seed, dendrites=grown | {"output_shares": {}})
    found = findings(folder, ("base", "dendrites", "sham"))
    with no_pictures():
        write_report(folder, found)
    return folder, found


BASE = "base is worse than a plain model: cls Accuracy 0.4625 (majority class 0.5000)."
GROWN = "dendrites is worse than a plain model: reg MSE 0.4900 (mean predictor 0.3500)."
SHARE = (
    "dendrites: share of the layers' output that dendrites contribute: median 0.6 %, from 0.1 % to "
    "5 % over 6 layers of all seeds."
)
WARNING = (
    "dendrites: warning: the dendrites contribute 0.6 % of the output of their layers in the "
    "median, less than 1 %: what is measured here is hardly more than reloads and restarts of the "
    "optimizer, and no verdict on dendrites. They learnt at 1 x the model's rate; raise "
    "dendrites.lr, for example to 10, or train them for longer."
)


def test_the_report_begins_with_the_arms_that_a_plain_model_beats(experiment):
    folder, _ = experiment
    text = (folder / "report.md").read_text(encoding="utf-8")
    said = text.split("## Arms")[0].splitlines()
    lead = [line for line in said if line.startswith("- ") and not line.startswith("- *")]
    assert lead[:2] == [f"- {BASE}", f"- {GROWN}"]
    assert lead[-2:] == [f"- {SHARE}", f"- {WARNING}"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.index(f"<li>{BASE}</li>") < page.index("The one contrast tested")
    assert "sham is worse" not in page


def test_the_terminal_says_the_same(experiment, capsys):
    print_report(*experiment)
    shown = capsys.readouterr().out
    assert shown.index(BASE) < shown.index(GROWN) < shown.index("The one contrast tested")
    assert SHARE in shown
    assert WARNING in shown
    assert "sham: share" not in shown


def test_a_run_from_before_the_rate_is_comparable_with_one_at_the_default(tmp_path, make_arm):
    old, new = make_arm(tmp_path, "base", 0), make_arm(tmp_path, "dendrites", 0)
    text = (old / "config.yaml").read_text()
    (old / "config.yaml").write_text(text.replace("  lr: 1.0\n", ""))
    assert "\n  lr: 1.0\n" in text
    assert "\n  lr: 1.0\n" not in (old / "config.yaml").read_text()
    check_comparable([read_run(old, "base"), read_run(new, "dendrites")])
