"""The benchmark runs, and its arms do the same work."""

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from benchmarks import training
from benchmarks.arms import ARMS, DEFAULT
from benchmarks.encoders import encoder_settings, spec_of, write_checkpoint
from benchmarks.flops import step_flops
from benchmarks.lengths import drawn, read
from benchmarks.ours import Ours
from benchmarks.reference import TrainerArm
from benchmarks.report import speeds
from benchmarks.timing import interleave
from benchmarks.training import app
from benchmarks.work import Options, Work, prepare
from dao.errors import UserError
from dao.learner.batches.batching import Examples, collate
from dao.learner.encoder.find import locate
from dao.learner.encoder.load import load_tokenizer
from dao.learner.model.model import build
from dao.learner.settings.encoder_section import Encoder

ROWS = (0, 1, 2, 3)


def work_on(encoder: Path, folder: Path, **options: object) -> Work:
    given = {"rounds": 2, "steps": 2, "batch_size": 4, **options}
    return prepare(Options(str(encoder), **given), folder)


@pytest.fixture(params=["phi", pytest.param("bert", marks=pytest.mark.slow)])
def encoder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(f"tiny_{request.param}")


def test_all_arms_agree_on_a_loss_in_fp32(encoder: Path, tmp_path: Path):
    work = work_on(encoder, tmp_path, precision="fp32", lora="all")
    losses = [ARMS[name](work).loss(ROWS) for name in DEFAULT]
    assert losses == pytest.approx([losses[0]] * len(DEFAULT), rel=1e-5)
    # LoRA's B is drawn, or its part in the sum would go unseen.
    plain = Ours(work)
    for name, parameter in plain.model.named_parameters():
        if "lora_B" in name:
            parameter.data.zero_()
    assert plain.loss(ROWS) != pytest.approx(losses[0], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["trainer_padded", "trainer_best"])
def test_bf16_is_the_best_trainers_alone_whichever_is_made_first(
    first: str, tiny_phi: Path, tmp_path: Path
):
    work = work_on(tiny_phi, tmp_path, precision="bf16")
    second = "trainer_best" if first == "trainer_padded" else "trainer_padded"
    arms = {name: ARMS[name](work) for name in (first, second)}
    plain = TrainerArm(work_on(tiny_phi, tmp_path / "fp32", precision="fp32"), best=True)
    exact = plain.loss(ROWS)
    for _ in range(2):
        assert arms["trainer_padded"].loss(ROWS) == pytest.approx(exact, rel=1e-6)
        assert 1e-6 < abs(arms["trainer_best"].loss(ROWS) / exact - 1) < 2e-2
        # Training prepares the model; it must not change the compute type of either.
        for arm in arms.values():
            arm.trainer.args.learning_rate = 0.0
            arm.run([ROWS, ROWS])


@pytest.mark.slow
def test_every_arm_trains_every_sentence_once(tiny_phi: Path, tmp_path: Path):
    work = work_on(tiny_phi, tmp_path, rounds=3)
    arms = {name: ARMS[name](work) for name in DEFAULT}
    seen: dict[str, list[tuple[int, ...]]] = {name: [] for name in arms}
    for name, arm in arms.items():
        model = arm.model if isinstance(arm, Ours) else arm.trainer.model
        sizes = seen[name]
        model.register_forward_pre_hook(
            lambda _, args, kwargs, sizes=sizes: sizes.append(
                int((args[1] if args else kwargs["attention_mask"]).sum())
            ),
            with_kwargs=True,
        )
    bursts = interleave(arms, 3, seed=0)
    for name, each in bursts.items():
        rows = [row for burst in each for batch in burst.rows for row in batch]
        assert sorted(rows) == list(range(24))
        assert [len(burst.rows) for burst in each] == [2, 2, 2]
        assert all(burst.seconds > 0 for burst in each)
        # The real tokens that the model saw are those that are counted, beside the warm-up.
        warm = sum(work.tokens(burst.rows[-1]) for burst in each)
        assert sum(seen[name]) == sum(work.examples.lengths) + warm


def test_the_reference_pads_and_groups_as_it_says(tiny_phi: Path, tmp_path: Path):
    work = work_on(tiny_phi, tmp_path, rounds=8)
    padded, best = (TrainerArm(work, best=best) for best in (False, True))
    shapes = []
    for arm in (padded, best):
        rows = ([arm.trainer.train_dataset[i] for i in batch] for batch in arm.order())
        shapes.append({arm.trainer.data_collator(r)["input_ids"].shape[1] for r in rows})
    assert shapes[0] == {work.limit}
    assert len(shapes[1]) > 3
    spread = [
        sum(max(n) - min(n) for n in ([work.tokens((i,)) for i in rows] for rows in arm.order()))
        for arm in (padded, best)
    ]
    assert spread[1] < spread[0] / 2


@pytest.mark.slow
def test_an_arm_moves_all_it_trains_and_nothing_else(tiny_phi: Path, tmp_path: Path):
    work = work_on(tiny_phi, tmp_path)
    for name in DEFAULT:
        arm = ARMS[name](work)
        model = arm.model if isinstance(arm, Ours) else arm.trainer.model
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        arm.run([ROWS, ROWS])
        moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
        assert moved == {n for n, p in model.named_parameters() if p.requires_grad}, name


KEYS = """vs_trainer_padded vs_trainer_padded_q1 vs_trainer_padded_q3 vs_trainer_best
vs_trainer_best_q1 vs_trainer_best_q3 ours_dao_vs_trainer_padded ours_dao_vs_trainer_best
ours_tokens_per_s trainer_padded_tokens_per_s trainer_best_tokens_per_s ours_dao_tokens_per_s
loss_difference trainer_best_loss_difference share_of_peak matmul_tflops model_tflops
stage_collate_ms stage_forward_ms stage_backward_ms precision device hardware lora rows tokens
""".split()


@pytest.mark.slow
def test_command_line_writes_flat_figures(tiny_phi: Path, tiny_csv: Path, tmp_path: Path):
    file = tmp_path / "figures.json"
    options = ["--encoder", str(tiny_phi), "--data", str(tiny_csv), "--json", str(file)]
    small = ["--rounds", "2", "--steps", "2", "--batch-size", "4", "--no-memory"]
    small += ["--precision", "fp32"]
    result = CliRunner().invoke(app, [*options, *small])
    assert result.exit_code == 0, result.output
    figures = json.loads(file.read_text())
    assert set(KEYS) <= set(figures)
    assert all(isinstance(value, int | float | str) for value in figures.values())
    assert figures["rows"] == 16
    assert figures["loss_difference"] < 1e-5
    assert figures["vs_trainer_best_q1"] <= figures["vs_trainer_best_q3"]
    assert "ours_dao" in result.output
    assert "trainer_best: HF Trainer, group_by_length" in result.output


def test_cached_frozen_states_change_no_loss_and_no_gradient(encoder: Path, tmp_path: Path):
    work = work_on(encoder, tmp_path, precision="fp32")
    arms = [ARMS[name](work) for name in ("ours_half", "ours_half_cached")]
    plain, cached = (arm.loss(ROWS) for arm in arms)
    assert cached == pytest.approx(plain, rel=1e-5)
    for arm in arms:
        arm.run([ROWS, ROWS])
    found = [arm.model.shared_parameters() for arm in arms]
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)
    assert len(found[0]) < len(ARMS["ours"](work).model.shared_parameters())
    rates = interleave(dict(zip(("ours", "ours_half"), arms, strict=True)), 2, seed=0)
    assert speeds(work, rates)["ours_half_vs_ours"] > 0


@pytest.mark.slow
@pytest.mark.usefixtures("warm_spawns")
def test_peak_memory_is_that_of_each_arm_alone(
    tiny_phi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def pool(number: int, context: BaseContext, **_: object) -> ProcessPoolExecutor:
        """It keeps its process: one that is given up is known by an id, which a warm one lacks."""
        return ProcessPoolExecutor(number, context)

    monkeypatch.setattr(training, "ProcessPoolExecutor", pool)
    monkeypatch.setattr(training, "matmul_peak", lambda device, dtype: 1e12)  # takes seconds
    file = tmp_path / "figures.json"
    small = ["--encoder", str(tiny_phi), "--rounds", "1", "--steps", "1", "--batch-size", "2"]
    small += ["--precision", "fp32"]
    command = [*small, "--arms", "ours", "--json", str(file), "--format", "json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    figures = json.loads(file.read_text())
    assert figures == json.loads(result.stdout)
    assert 50 < figures["peak_mib"] == figures["ours_peak_mib"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arms", "ours,theirs"], "`--arms` should be among"),
        (["--encoder", "no-such-encoder"], "`--encoder` should be minilm"),
        (["--data", "no-such-file.csv"], "`--data` should be a CSV"),
    ],
)
def test_wrong_options_are_one_line(arguments: list[str], message: str):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: " + message)
    assert result.stderr.count("\n") == 1


def test_a_file_without_text_is_refused_and_a_short_one_comes_again(tiny_phi: Path, tmp_path: Path):
    tokenizer = load_tokenizer(locate(str(tiny_phi)))
    file = tmp_path / "data.csv"
    file.write_text("sentence\nprofit rose\n")
    with pytest.raises(UserError, match=r"column `text`\. Found columns sentence"):
        read(file, 3, tokenizer, 64, seed=0)
    file.write_text("text\nprofit rose\nloss\n")
    assert sorted(map(len, read(file, 4, tokenizer, 64, seed=0))) == [1, 1, 2, 2]


def test_lengths_are_those_of_the_phrase_bank():
    lengths = sorted(map(len, drawn(4000, 100, 128, seed=1)))
    assert (lengths[0] >= 4, lengths[-1]) == (True, 128)
    assert lengths[2000] == pytest.approx(28, abs=1)
    assert lengths[3800] == pytest.approx(58, abs=3)


def test_flops_by_hand(tiny_phi: Path):
    cfg = encoder_settings(spec_of(str(tiny_phi)), "qv", "auto", Path("unused"))
    frozen = 2 * (4 * 32 * 32 + 2 * 32 * 64)  # layers x (q, k, v, dense; fc1, fc2)
    adapter = 2 * 2 * (32 * 8 + 8 * 32)  # layers x (q, v) x (A, B)
    attention = 12 * 2 * 32 * (3**2 + 5**2)
    assert step_flops(cfg, [3, 5]) == (4 * frozen + 6 * adapter) * 8 + attention


def test_a_checkpoint_written_in_nf4_trains_in_either_precision(tmp_path: Path):
    from transformers import PhiConfig

    shape = PhiConfig(
        vocab_size=30592,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
    )
    write_checkpoint(shape, tmp_path, quantize=True)
    load_tokenizer(locate("all-MiniLM-L6-v2")).save_pretrained(tmp_path)
    for precision in ("fp32", "bf16"):
        cfg = Encoder(name=str(tmp_path), quantize="nf4", precision=precision)
        model, _, _ = build(cfg, {"cls": 3}, torch.device("cpu"), 0)
        packed = [p for p in model.encoder.parameters() if p.dtype == torch.uint8]
        assert len(packed) == 2 * 6
        batch = collate(Examples([[5, 6, 7], [8]], {}), (0, 1), 0, torch.device("cpu"))
        model.train()(batch.input_ids, batch.attention_mask)["cls"].square().sum().backward()
        assert all(p.grad is not None for p in model.shared_parameters())


def test_dendrites_are_in_the_arm_that_has_them(tiny_phi: Path, tmp_path: Path):
    pytest.importorskip("perforatedai")
    work = work_on(tiny_phi, tmp_path, precision="fp32")
    plain, grown = Ours(work), ARMS["ours_dendrites"](work)
    assert sum(p.numel() for p in grown.model.parameters() if p.requires_grad) > sum(
        p.numel() for p in plain.model.parameters() if p.requires_grad
    )
    assert grown.loss(ROWS) == pytest.approx(plain.loss(ROWS), rel=1e-5)
    assert grown.run([ROWS, ROWS]) > 0
