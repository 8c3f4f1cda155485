"""The four parts of a run: their order, what they hand on, and the figures of the record."""

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch

from dao.learner.kinds.regression import Regression
from dao.learner.pipeline import fit, measure, run
from dao.learner.pipeline.fit import Trained
from dao.learner.pipeline.prepare import Inputs
from dao.learner.pipeline.recording import predictions, training_facts
from dao.learner.training.loop import Fitted

GIVEN = Inputs(SimpleNamespace(), None, {}, {}, None, None)


def fitted(**more: Any) -> Fitted:
    about = {"steps": 20, "best_step": 10, "restarts": [], "seconds": 2.54, **more}
    return Fitted(model=None, description={}, dendrites={}, report=None, **about)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the parts that were called, in order."""
    called: list[str] = []
    for name in ("prepare", "fit", "save_model", "measure", "record"):

        def part(*given: Any, name: str = name) -> Any:
            called.append(name)
            return {"by": name}

        monkeypatch.setattr(run, name, part)
    return called


def test_a_run_is_prepared_fitted_saved_measured_and_recorded(parts):
    assert run.run(GIVEN) == {"by": "record"}
    assert parts == ["prepare", "fit", "save_model", "measure", "record"]


def test_other_ranks_end_with_the_fit(parts, monkeypatch):
    monkeypatch.setattr(run.ranks, "is_first", lambda: False)
    assert run.run(GIVEN) == {}
    assert parts == ["prepare", "fit"]


def prepared(**cfg: Any) -> Any:
    job = SimpleNamespace(cfg=SimpleNamespace(**cfg))
    return SimpleNamespace(job=job, inputs=SimpleNamespace(resume=True))


def test_experts_train_in_stages_and_their_outputs_are_handed_on(monkeypatch):
    outputs = {"reg": torch.zeros(2, 1)}
    given = fitted(), {"stages": {}}, outputs
    monkeypatch.setattr(fit, "fit_stages", lambda job, *, resume: given)
    found = fit.fit(prepared(routed=True, experts=SimpleNamespace(names=("a", "b"))))
    assert (found.fitted, found.experts, found.validation) == given


def test_without_experts_there_is_one_fit(monkeypatch):
    one = fitted()
    monkeypatch.setattr(fit.loop, "fit", lambda job, *, resume: one)
    found = fit.fit(prepared(routed=False, experts=SimpleNamespace(names=())))
    assert (found.fitted, found.experts, found.validation) == (one, None, None)


def validation(monkeypatch, trained: Trained) -> tuple[Any, list[str]]:
    """What `measure._validation` gives, and which rows it had predicted."""
    passes: list[str] = []
    rows = SimpleNamespace(name="job")

    def predict(model: object, examples: Any, pad: int) -> dict[str, str]:
        passes.append(examples.name)
        return {"reg": examples.name}

    def shares(model: object, watched: Any) -> dict[str, list[float]]:
        watched()
        return {"layer": [0.5]}

    monkeypatch.setattr(measure, "predict", predict)
    monkeypatch.setattr(measure.dendritic, "output_shares", shares)
    work = SimpleNamespace(
        predictor=SimpleNamespace(model=None, pad=0),
        job=SimpleNamespace(validation=rows),
    )
    return measure._validation(work, trained), passes


def test_validation_rows_are_predicted_once(monkeypatch):
    assert validation(monkeypatch, Trained(fitted())) == (({"reg": "job"}, None), ["job"])
    known = Trained(fitted(), {}, {"reg": "known"})
    assert validation(monkeypatch, known) == (({"reg": "known"}, None), [])


def test_the_pass_that_measures_dendrites_is_the_one_that_predicts(monkeypatch):
    grown = Trained(Fitted(**{**vars(fitted()), "report": {"control": "none"}}))
    (outputs, report), passes = validation(monkeypatch, grown)
    assert (outputs, passes) == ({"reg": "job"}, ["job"])
    assert report["output_shares"] == {"layer": [0.5]}
    assert report["output_shares_of_sets"][0]["median"] == 0.5


def test_steps_and_time_of_one_fit():
    ended = {"planned": 30, "skipped": 2, "ended": 15, "thrown_away": 4}
    found = training_facts(Trained(fitted(**ended)), routed=False)
    assert found == {
        "steps": 20, "stopped_early": {"after_step": 20, "of_steps": 30},
        "selected_after_step": 10, "restarted_after_steps": [], "seconds": 2.5, "skipped_steps": 2,
        "growth_over_after_step": 15, "thrown_away_steps": 4,
    }  # fmt: skip


def test_predictions_by_hand():
    rows = pd.DataFrame(
        {"id": ["a", "b"], "text": ["x", "y"], "reg": pd.Series([1.0, None], dtype=object)}
    )
    task = Regression("reg", "reg")
    outputs = {"reg": torch.tensor([[0.25], [0.5]])}
    found = predictions(rows, {"reg": task}, outputs, {"text": ["x", "y"]}, {"expert": ["n", "n"]})
    assert list(found)[:3] == ["id", "text", "reg_target"]
    assert {"reg_row_score", "expert"} <= {*found}
    assert found["expert"].tolist() == ["n", "n"]
    assert found["reg_target"].tolist()[0] == 1.0
