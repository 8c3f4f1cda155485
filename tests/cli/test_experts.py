"""Experts and a router through the command line: stages, record, resumption, merging, bad input."""

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

EXPERTS = ("--experts", "news,forum", "--domain-column", "origin")


@pytest.fixture
def run(expert_run: Path) -> Path:
    return expert_run


def read(folder: Path, name: str = "metrics.json") -> Any:
    return json.loads((folder / name).read_text())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    files = sorted(folder.glob("experts/*/*.safetensors"))
    files += [folder / "heads.safetensors", folder / "router.safetensors"]
    return {f"{file}:{k}": v for file in files for k, v in load_file(file).items()}


def same(one: Path, other: Path) -> bool:
    pairs = zip(weights(one).values(), weights(other).values(), strict=True)
    return all(a.equal(b) for a, b in pairs)


def evaluate(*arguments: str) -> Result:
    from evaluate import app

    return CliRunner().invoke(app, [*arguments], catch_exceptions=False)


# -- a run ---------------------------------------------------------------------------------------


def test_the_run_folder_is_complete(run: Path):
    expected = {
        "README.md", "calibration.json", "config.yaml", "data.json", "experts", "experts.json",
        "heads.safetensors", "history.jsonl", "metrics.json", "predictions.csv",
        "router.safetensors", "stages",
        "tasks.json", "tokenizer", "validation.jsonl",
    }  # fmt: skip
    assert {path.name for path in run.iterdir()} == expected
    for name in ("news", "forum"):
        files = {path.name for path in (run / "experts" / name).iterdir()}
        assert files == {"adapter_config.json", "adapter_model.safetensors"}
    for name in ("news", "forum", "router"):
        files = {path.name for path in (run / "stages" / name).iterdir()}
        assert files == {"history.jsonl", "stage.json", "validation.jsonl"}


def test_each_stage_moves_what_it_should(run: Path):
    stages = read(run, "experts.json")["stages"]
    assert list(stages) == ["news", "forum", "router", "joint"]

    def moved(stage: str) -> dict[str, str]:
        return {p: f"{c['tensors']}/{c['of']}" for p, c in stages[stage]["moved"].items()}

    assert moved("news") == {"news": "16/16", "forum": "0/16", "router": "0/4", "heads": "4/4"}
    assert moved("forum") == {"news": "0/16", "forum": "16/16", "router": "0/4", "heads": "4/4"}
    assert moved("router") == {"news": "0/16", "forum": "0/16", "router": "4/4", "heads": "4/4"}
    assert moved("joint") == {"news": "16/16", "forum": "16/16", "router": "4/4", "heads": "4/4"}
    assert stages["router"]["steps"] == 11
    assert stages["news"]["rows"] + stages["forum"]["rows"] == stages["joint"]["rows"] == 100
    assert 0.9 < stages["joint"]["validation"]["accuracy"] <= 1


def test_history_has_the_router_beside_the_tasks(run: Path):
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    for row in rows:
        router, tasks = row["router"], row["tasks"].values()
        weighted = 1.5 * router["domain"] + 0.05 * router["balance"]
        assert router["loss"] == pytest.approx(weighted, rel=1e-5, abs=1e-7)
        total = sum(task["weight"] * task["loss"] for task in tasks) + router["loss"]
        assert row["loss"] == pytest.approx(total, rel=1e-5)
    first = (run / "stages" / "news" / "history.jsonl").read_text().splitlines()[0]
    assert "router" not in json.loads(first)
    warm_up = (run / "stages" / "router" / "history.jsonl").read_text().splitlines()
    assert len(warm_up) == 11
    glances = (run / "stages" / "router" / "validation.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in glances] == [2, 4, 7, 9, 11]
    # The last weights are kept all the same.
    scores, best = zip(
        *((row["score"], row["best"]) for row in map(json.loads, glances)), strict=True
    )
    assert list(best) == [score > max(scores[:i], default=-9) for i, score in enumerate(scores)]


def test_metrics_have_domains_routing_and_usage(run: Path):
    metrics = read(run)
    assert metrics["arm"] == "cls+reg-dao-experts"
    routing = metrics["routing"]["test"]
    assert routing["n"] == 30
    assert sum(routing["usage"].values()) == pytest.approx(1)
    assert sum(row["n"] for row in routing["domains"].values()) == 30
    assert routing["soft"]["all"] == metrics["splits"]["test"]
    assert routing["soft"]["domains"] == metrics["slices"]["test"]["domain"]
    assert routing["hard"]["all"]["cls"]["n"] == 30
    printed = (run.parent / "printed.txt").read_text()
    assert "test: the router is right in" in printed
    assert "soft, forum" in printed
    assert f"of stage 3; {metrics['training']['steps']} steps in all stages; trained" in printed
    stages = metrics["experts"]["stages"].values()
    assert metrics["training"]["seconds"] == pytest.approx(
        sum(s["seconds"] for s in stages), abs=0.1
    )
    assert "hard, news" in printed
    counted = f"of 20 of stage 3; {metrics['training']['steps']} steps in all stages"
    assert counted in " ".join(printed.split())


def test_training_is_counted_over_the_stages():
    from dao.learner.pipeline.fit import Trained
    from dao.learner.pipeline.recording import training_facts
    from dao.learner.training.loop import Fitted

    fitted = Fitted(None, {}, {}, None, 20, 10, [], 2.5, skipped=3)
    stages = {"news": {"steps": 4, "seconds": 1.0}, "joint": {"steps": 20, "seconds": 2.5}}
    found = training_facts(Trained(fitted, {"stages": stages}), routed=True)
    assert (found["steps"], found["seconds"], found["skipped_steps"]) == (24, 3.5, 3)
    assert found["selected_after_step"] == 10


def test_predictions_have_the_weights_of_the_experts(run: Path):
    with open(run / "predictions.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        pair = {name: float(row[f"expert_{name}"]) for name in ("news", "forum")}
        assert sum(pair.values()) == pytest.approx(1)
        assert row["expert"] == max(pair, key=lambda name: pair[name])
    result = evaluate(str(run), "--text", "up up strong profit rose")
    assert json.loads(result.stdout)["expert"] in ("news", "forum")


@pytest.mark.slow
def test_reloaded_it_predicts_the_same(run: Path):
    from dao.learner.inference.predictor import reload
    from dao.learner.scoring.scoring import predict
    from dao.learner.storage.record import RunFolder

    stored = pd.read_csv(run / "predictions.csv")
    predictor = reload(RunFolder(run), {"cls": 2, "reg": 1}, torch.device("cpu"))
    found = predictor(stored["text"].tolist())
    assert found["experts"][:, 0].tolist() == stored["expert_news"].tolist()
    result = evaluate(str(run), "--format", "json")
    again, metrics = json.loads(result.stdout), read(run)
    for part in ("splits", "slices", "routing"):
        assert again[part]["test"] == metrics[part]["test"]
    from dao.learner.batches.batching import Examples

    examples = Examples(predictor.tokens(stored["text"].tolist()), {})
    single = predict(predictor.model, examples, predictor.pad, batch_size=1)
    many = predict(predictor.model, examples, predictor.pad, batch_size=32)
    for name in found:
        torch.testing.assert_close(single[name], many[name], rtol=1e-5, atol=1e-6)
    for name in ("cls", "experts"):  # what is decided by them
        assert single[name].argmax(1).tolist() == many[name].argmax(1).tolist()


def test_new_data_may_lack_domains(run: Path, tmp_path: Path):
    rows = pd.DataFrame({"text": ["profit rose", "loss fell"], "label": ["up", "down"]})
    rows.to_csv(tmp_path / "new.csv", index=False)
    result = evaluate(str(run), "--data", str(tmp_path / "new.csv"))
    assert result.exit_code == 0, result.output
    assert "no known domain to compare with" in result.stdout


def test_damaged_experts_are_refused(run: Path, tmp_path: Path):
    copied = Path(shutil.copytree(run, tmp_path / "run"))
    (copied / "router.safetensors").unlink()
    result = evaluate(str(copied), "--text", "profit rose")
    assert result.exit_code == 1
    assert "router.safetensors cannot be read" in " ".join(result.stderr.split())


# -- stopped and resumed -------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "step"), [("forum", 2), ("joint", 14)])
def test_a_stopped_run_ends_with_the_same_weights(
    invoke,
    run: Path,
    domain_csv: Path,
    tiny_phi: Path,
    tmp_path: Path,
    monkeypatch,
    stage: str,
    step: int,
):
    from dao.learner.console.report import RichProgress
    from train import app

    stages = read(run, "experts.json")["stages"]
    own = stages[stage]["steps"]
    assert [s["steps"] for s in stages.values()].count(own) == 1

    def stop(self: RichProgress, row: dict[str, Any], total: int) -> None:
        if total == own and row["step"] == step:
            raise KeyboardInterrupt

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(RichProgress, "step", stop)
        stopped = invoke(domain_csv, tiny_phi, folder, "--tasks", "cls,reg", "--dao", *EXPERTS)
    assert stopped.exit_code == 130
    assert f"--resume {folder} continues" in " ".join(stopped.stderr.split())
    result = CliRunner().invoke(app, ["--resume", str(folder)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert same(run, folder)
    for name in ("news", "forum", "router"):
        logs = (place / "stages" / name / "history.jsonl" for place in (run, folder))
        one, other = ([json.loads(x)["loss"] for x in log.read_text().splitlines()] for log in logs)
        assert one == other
    a, b = (read(place, "experts.json")["stages"] for place in (run, folder))
    assert [s["moved"] for s in a.values()] == [s["moved"] for s in b.values()]


def test_the_mean_of_the_heads_leaves_out_those_that_never_trained():
    from dao.learner.experts.stages import _mean_heads
    from dao.learner.kinds.regression import Regression

    task = Regression("reg", "score")
    targets = {"news": [1.0, None], "forum": [None, None], "blog": [0.0, 1.0]}
    stages = [
        SimpleNamespace(
            job=SimpleNamespace(
                tasks={"reg": task}, train=SimpleNamespace(targets={"reg": task.encode(values)})
            )
        )
        for values in targets.values()
    ]
    ends = [{"reg.weight": torch.full((1, 2), value)} for value in (1.0, 9.0, 4.0)]
    fresh = {"reg.weight": torch.full((1, 2), 9.0)}
    assert _mean_heads(fresh, stages, ends)["reg.weight"].tolist() == [[2.5, 2.5]]
    assert _mean_heads(fresh, stages[1:2], ends[1:2])["reg.weight"].tolist() == [[9.0, 9.0]]


# -- other kinds of run --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        ["--quantize", "nf4", "--tasks", "cls,reg", "--experts", "news,forum"],
        ["--tasks", "cls", "--experts", "forum,news", "encoder.precision=bf16"],
        ["--tasks", "cls,reg", "--experts", "news,forum", "experts.router=states",
         "experts.routing=hard", "--weighting", "gradnorm", "encoder.lora.dropout=0.1"],
    ],
    ids=["nf4", "one-task-bf16", "states-hard-gradnorm"],
)  # fmt: skip
def test_it_runs_with(invoke, domain_csv: Path, tiny_phi: Path, tmp_path: Path, more: list[str]):
    short = ("data.domain=origin", "train.epochs=1", "experts.router_warmup_steps=3")
    result = invoke(domain_csv, tiny_phi, tmp_path / "run", *short, *more)
    assert result.exit_code == 0, result.output
    joint = read(tmp_path / "run", "experts.json")["stages"]["joint"]["moved"]
    assert all(joint[name] == {"tensors": 16, "of": 16} for name in ("news", "forum"))
    found = json.loads(evaluate(str(tmp_path / "run"), "--format", "json").stdout)
    assert found["splits"]["test"] == read(tmp_path / "run")["splits"]["test"]


@pytest.mark.slow
def test_the_presets_combination(invoke, domain_csv: Path, tmp_path: Path):
    """An encoder from scratch with a tokenizer of characters, and feed-forward layers adapted."""
    scratch = (
        "encoder.scratch.when=always", "encoder.scratch.layers=1", "encoder.scratch.width=32",
        "encoder.scratch.heads=2", "encoder.scratch.intermediate=64",
        "encoder.scratch.tokenizer=characters", "encoder.scratch.vocabulary=200",
        "encoder.scratch.pretrain_epochs=1", "encoder.lora.targets=[query,key,value,dense]",
        "encoder.max_length=64", f"cache={tmp_path / 'cache'}", "train.epochs=1",
        "experts.router_warmup_steps=3",
    )  # fmt: skip
    run = tmp_path / "run"
    result = invoke(domain_csv, Path("nowhere/bert"), run, "--tasks", "cls", *EXPERTS, *scratch)
    assert result.exit_code == 0, result.output
    again = json.loads(evaluate(str(run), "--format", "json").stdout)
    assert again["splits"]["test"] == read(run)["splits"]["test"]

    place = tmp_path / "merged"
    result = evaluate(str(run), "--merge-experts", "cat", "--output", str(place))
    assert result.exit_code == 0, result.output
    from peft import PeftModel
    from transformers import BertModel

    own, base = (
        read(folder, "adapter_config.json")["base_model_name_or_path"]
        for folder in (run / "experts" / "news", place)
    )
    assert own == "base"
    assert PeftModel.from_pretrained(BertModel.from_pretrained(base), place).peft_config


@pytest.mark.slow
def test_three_experts(invoke, domain_csv: Path, tiny_bert: Path, tmp_path: Path):
    rows = pd.read_csv(domain_csv)
    rows.loc[rows.index % 3 == 0, "origin"] = "blog"
    rows.to_csv(tmp_path / "three.csv", index=False)
    names = ("--experts", "news,forum,blog", "--domain-column", "origin", "--tasks", "cls",
             "train.epochs=1", "experts.router_warmup_steps=3")  # fmt: skip
    result = invoke(tmp_path / "three.csv", tiny_bert, tmp_path / "run", *names)
    assert result.exit_code == 0, result.output
    assert len(read(tmp_path / "run")["routing"]["test"]["usage"]) == 3


@pytest.mark.slow
def test_the_single_lora_takes_as_many_steps(
    invoke, run: Path, domain_csv, tiny_phi, tmp_path: Path
):
    more = ("--tasks", "cls,reg", "--dao", *EXPERTS, "experts.control=single")
    result = invoke(domain_csv, tiny_phi, tmp_path / "run", *more)
    assert result.exit_code == 0, result.output
    single, experts = read(tmp_path / "run"), read(run)
    assert single["arm"] == "cls+reg-dao-single"
    stages = read(run, "experts.json")["stages"]
    steps = sum(stage["steps"] for stage in stages.values())
    assert single["training"]["steps"] == experts["training"]["steps"] == steps
    assert single["parameters"]["trainable"] >= experts["parameters"]["trainable"]
    assert "routing" not in single
    assert single["slices"]["test"]["domain"].keys() == {"news", "forum"}


# -- merging -------------------------------------------------------------------------------------


def updates(folder: Path) -> dict[str, torch.Tensor]:
    """B A alpha / r of every layer, from the files of an adapter."""
    about = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    scale = about["lora_alpha"] / about["r"]
    names = [name for name in tensors if "lora_A" in name]
    return {n: scale * tensors[n.replace("lora_A", "lora_B")] @ tensors[n] for n in names}


@pytest.mark.parametrize(
    "rule", ["cat", *(pytest.param(n, marks=pytest.mark.slow) for n in ("svd", "linear", "ties"))]
)
def test_experts_merge_into_one_plain_adapter(run: Path, tiny_phi: Path, tmp_path: Path, rule: str):
    place = tmp_path / "merged"
    asked = ("--merge-experts", rule, "--expert-weights", ".4,.6", "--output", str(place))
    result = evaluate(str(run), *asked)
    assert result.exit_code == 0, result.output
    assert f"merged, {rule}, forum" in result.stdout
    assert "routed, soft, all" in result.stdout
    assert "for use with peft (dao evaluate takes runs)" in " ".join(result.stdout.split())
    files = {"adapter_config.json", "adapter_model.safetensors", "heads.safetensors"}
    assert {path.name for path in place.iterdir()} == files
    news, forum, merged = map(updates, (run / "experts/news", run / "experts/forum", place))
    sums = {name: 0.4 * news[name] + 0.6 * forum[name] for name in news}
    exact = max(float((merged[name] - sums[name]).abs().max()) for name in sums)
    assert (exact < 1e-5) == (rule in ("cat", "svd"))

    from peft import PeftModel
    from transformers import PhiModel

    loaded = PeftModel.from_pretrained(PhiModel.from_pretrained(tiny_phi), place)
    assert loaded.peft_config["default"].r == (16 if rule in ("cat", "svd") else 8)
    again = evaluate(str(run), *asked)
    assert again.exit_code == 1
    assert "should be a new folder" in " ".join(again.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--merge-experts", "cat"], 2, "--merge-experts goes together with --output."),
        (["--expert-weights", "1,1"], 2, "goes with --merge-experts"),
        (["--merge-experts", "cat", "--output", "x", "--expert-weights", "1"], 1, "2 numbers"),
        (["--merge-experts", "cat", "--output", "no/where"], 1, "should be a new folder"),
        (["--engine", "merged"], 1, "mixes text by text. Use --engine eager."),
        (["--export", "x.onnx"], 1, "mixes text by text"),
    ],
)
def test_wrong_ways_to_merge(run: Path, tmp_path: Path, monkeypatch, arguments, code, said):
    monkeypatch.chdir(tmp_path)
    result = evaluate(str(run.resolve()), *arguments)
    assert result.exit_code == code, result.output
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


# -- bad input -----------------------------------------------------------------------------------


def broken(rows: pd.DataFrame, kind: str) -> pd.DataFrame:
    if kind == "unknown":
        rows.loc[3, "origin"] = "blog"
    elif kind == "missing":
        rows = rows[rows["origin"] == "news"]
    elif kind == "some":
        rows.loc[[1, 5], "origin"] = None
    elif kind == "empty":
        rows["origin"] = None
    elif kind == "alike":
        rows.loc[(rows["origin"] == "forum") & (rows["split"] == "validation"), "score"] = 0.5
    return rows


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("unknown", "Found rows of blog."),
        ("missing", "no training or no validation rows of forum"),
        ("some", "Found 2 of 160 rows without one"),
        ("empty", "Found no such column, or an empty one"),
        ("alike", "Found too few labels of forum, or all alike"),
    ],
)
def test_domains_that_do_not_fit_are_one_line(invoke, domain_csv, tiny_phi, tmp_path, kind, said):
    broken(pd.read_csv(domain_csv), kind).to_csv(tmp_path / "bad.csv", index=False)
    task = "reg" if kind == "alike" else "cls"
    result = invoke(tmp_path / "bad.csv", tiny_phi, tmp_path / "run", "--tasks", task, *EXPERTS)
    assert result.exit_code == 1
    assert said in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("error:")]) == 1
    assert not (tmp_path / "run").exists()


def test_a_router_that_sees_nothing_is_refused(invoke, domain_csv, tiny_phi, tmp_path):
    from transformers import PhiModel

    blind = Path(shutil.copytree(tiny_phi, tmp_path / "blind"))
    model = PhiModel.from_pretrained(tiny_phi)
    with torch.no_grad():
        model.embed_tokens.weight[:] = 1.0
    model.save_pretrained(blind)
    result = invoke(domain_csv, blind, tmp_path / "run", "--tasks", "cls", *EXPERTS)
    assert result.exit_code == 1
    assert "is the same for 32 different texts" in result.stderr


def test_several_processes_are_refused_before_anything_is_made(
    invoke, domain_csv, tmp_path: Path, monkeypatch
):
    from dao.learner.experts import stages

    monkeypatch.setattr(stages, "ranks", SimpleNamespace(several=lambda: True))
    monkeypatch.setattr("dao.learner.pipeline.prepare.find_encoder", None)
    result = invoke(domain_csv, Path("nowhere"), tmp_path / "run", "--tasks", "cls", *EXPERTS)
    assert result.exit_code == 1
    assert "should train in one process" in result.stderr


def test_the_factorial_has_no_experts():
    from train import app

    result = CliRunner().invoke(app, ["--factorial", "--tasks", "cls,reg", "--experts", "c,d"])
    assert result.exit_code == 1
    assert "The built-in experiment has no arms with experts" in " ".join(result.stderr.split())


@pytest.mark.slow
def test_what_was_frozen_and_moved_is_a_bug(
    invoke, domain_csv: Path, tiny_phi: Path, tmp_path: Path, monkeypatch
):
    from dao.learner.experts import stages

    real = stages.fit

    def fit(job, *, resume):
        if job.folder.path.name == "router":
            with torch.no_grad():
                job.model.get_parameter(
                    next(n for n, _ in job.model.named_parameters() if "lora_B.news" in n)
                )[0, 0] += 1e-7
        return real(job, resume=resume)

    monkeypatch.setattr(stages, "fit", fit)
    with pytest.raises(RuntimeError, match=r"\['news'\] moved in the stage router"):
        invoke(domain_csv, tiny_phi, tmp_path / "run", "--tasks", "cls", *EXPERTS)


@pytest.mark.slow
def test_an_expert_that_does_not_move_in_the_last_stage_is_refused(
    invoke, domain_csv: Path, tiny_phi: Path, tmp_path: Path, monkeypatch
):
    from dao.learner.experts import stages

    real = stages.train_only

    def only_news(encoder, names, experts, *, router):
        real(encoder, names[:1], experts, router=router)

    monkeypatch.setattr(stages, "train_only", only_news)
    result = invoke(domain_csv, tiny_phi, tmp_path / "run", "--tasks", "cls", *EXPERTS)
    assert result.exit_code == 1
    assert "Found 0 of 16 moved of the expert forum" in result.stderr
    assert not (tmp_path / "run" / "metrics.json").exists()
