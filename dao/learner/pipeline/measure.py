"""From a selected model to its figures; every split is predicted once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from torch import Tensor

from dao.learner.batches.tokens import Tokens
from dao.learner.calibration.figures import calibration_parts
from dao.learner.calibration.record import Calibration, calibration_of
from dao.learner.calibration.temperature import with_temperature
from dao.learner.calibration.unlike import familiar
from dao.learner.dendrites import dendritic
from dao.learner.dendrites.share import shares_of_sets
from dao.learner.experts.routing import routing_figures
from dao.learner.kinds import Task
from dao.learner.pipeline.fit import Trained
from dao.learner.pipeline.prepare import Prepared
from dao.learner.scoring.assessment import assess
from dao.learner.scoring.scoring import predict

__all__ = ["Measured", "measure"]

MEASURED = ("validation", "test")
Outputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class Measured:
    """What a selected model came to.

    Attributes:
        tasks: by name, with what they chose on the validation rows: thresholds, temperatures.
        figures: `splits`, `baselines`, `best_reachable`, `slices`, and `routing` where there is a
            router, each of validation and of test; `calibration` and `unlike` of test.
        calibration: what the run keeps of its validation rows, the content of calibration.json.
        test: the model's outputs for the test rows, task -> (n, outputs of the task).
        dendrites: the content of dendrites.json but for their structure; None without dendrites.
    """

    tasks: Mapping[str, Task]
    figures: Mapping[str, Mapping[str, Any]]
    calibration: Calibration
    test: Outputs
    dendrites: Mapping[str, Any] | None


def measure(prepared: Prepared, trained: Trained) -> Measured:
    """Put the dendrites on, predict validation and test, tune on validation, then measure both.

    Args:
        prepared: of the run.
        trained: its selected model; it has its dendrites afterwards.
    """
    fitted, predictor = trained.fitted, prepared.predictor
    dendritic.attach(fitted.model, fitted.description)
    dendritic.load(fitted.model, fitted.dendrites)
    validation, dendrites = _validation(prepared, trained)
    test = predict(predictor.model, prepared.ids["test"], predictor.pad)
    outputs = {"validation": validation, "test": test}
    table = prepared.inputs.table
    tasks = _tuned(prepared.inputs.tasks, validation, table.rows("validation"))
    figures: dict[str, dict[str, Any]] = {}
    learnt = table.rows("train"), table.rows("validation")
    for split in MEASURED:
        best = prepared.inputs.ceilings.get(split, {})
        rows = table.rows(split)
        parts = assess(outputs[split], tasks, rows, learnt, best, prepared.slices)
        for part, content in parts.items():
            figures.setdefault(part, {})[split] = content
    calibration = _calibration(prepared, tasks, validation)
    ids = prepared.ids["test"].ids
    figures |= calibration_parts("test", tasks, calibration, test, table.rows("test"), ids)
    figures |= _routed(prepared, tasks, outputs)
    return Measured(tasks, figures, calibration, test, dendrites)


def _validation(prepared: Prepared, trained: Trained) -> tuple[Outputs, dict[str, Any] | None]:
    """Outputs for the validation rows, and from the same pass what the dendrites contribute."""
    model, pad = prepared.predictor.model, prepared.predictor.pad
    rows, found = prepared.job.validation, dict(trained.validation or {})

    def run() -> None:
        found.update(predict(model, rows, pad))

    report = trained.fitted.report
    if report is not None:
        shares = dendritic.output_shares(model, run)
        of_sets = shares_of_sets([shares])
        report = {**report, "output_shares": shares, "output_shares_of_sets": of_sets}
    if not found:  # no dendrite is left
        run()
    return found, report


def _tuned(tasks: Mapping[str, Task], outputs: Outputs, rows: pd.DataFrame) -> dict[str, Task]:
    """The tasks with what they choose on the validation rows: thresholds, temperatures."""
    found = {}
    for name, task in tasks.items():
        known = outputs[name], task.encode(rows[name].tolist())
        found[name] = with_temperature(task.tuned(*known), *known)
    return found


def _calibration(prepared: Prepared, tasks: Mapping[str, Task], outputs: Outputs) -> Calibration:
    """What the run keeps of its validation rows."""
    rows, ids = prepared.inputs.table.rows("validation"), prepared.ids
    targets = {name: task.encode(rows[name].tolist()) for name, task in tasks.items()}
    training = ids["train"].ids
    assert isinstance(training, Tokens)
    known = familiar(training.values, ids["validation"].ids, prepared.predictor.tokenizer)
    return calibration_of(tasks, outputs, targets, known, prepared.inputs.cfg.seed)


def _routed(
    prepared: Prepared, tasks: Mapping[str, Task], outputs: Mapping[str, Outputs]
) -> dict[str, Any]:
    """What the router did on each split; nothing where there is none."""
    if not prepared.inputs.cfg.routed:
        return {}
    table, predictor = prepared.inputs.table, prepared.predictor
    return {
        "routing": {
            split: routing_figures(
                predictor, tasks, table.rows(split), ids=prepared.ids[split], outputs=outputs[split]
            )
            for split in MEASURED
        }
    }
