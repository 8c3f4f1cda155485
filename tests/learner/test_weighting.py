"""Published weightings: hand-computed weights, the gradients they leave, and their state."""

import copy
import inspect
import io
import math
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn

from dao.errors import UserError
from dao.learner.settings.config import load_config
from dao.learner.settings.decisive import completed, decisive
from dao.learner.settings.weighting_spec import Spec, parse_weighting
from dao.learner.storage.record import RunFolder
from dao.learner.weighting import gradient_weighting
from dao.learner.weighting.gradient_weighting import DualBalancing, GradNorm
from dao.learner.weighting.scalarizers import METHODS
from dao.learner.weighting.weighting import Weighting, make_weighting

TASKS = ("cls", "reg")
ALL = [
    "dao", "equal", "fixed:1,30", "gls", "uw", "uw_so:2", "dwa", "rlw", "gradnorm", "famo", "dbmtl",
    "imtl_l", "norm0", "norm0:12", "autoscale", "autoscale:12", "torchjd:UPGrad",
    "torchjd:PCGrad", "torchjd:GradVac", "torchjd:MGDA", "torchjd:ExcessMTL", "torchjd:AlignedMTL",
]  # fmt: skip


class Toy(nn.Module):
    """A shared layer and two heads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.shared = nn.Linear(3, 4)
        self.heads = nn.ModuleDict({task: nn.Linear(4, 1) for task in TASKS})

    def losses(self, seed: int = 0, tasks: tuple[str, ...] = TASKS) -> dict[str, Tensor | None]:
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(seed))
        z = self.shared(x).tanh()
        scale = {"cls": 1.0, "reg": 10.0}
        found = {t: scale[t] * (head(z) - 1).square().mean() for t, head in self.heads.items()}
        return {task: loss if task in tasks else None for task, loss in found.items()}


def make(name: str, toy: Toy, *overrides: str) -> Weighting:
    cfg = load_config(overrides=overrides, flags={"weighting": name})
    return make_weighting(
        cfg,
        TASKS,
        shared=lambda: list(toy.shared.parameters()),
        trainable=lambda: list(toy.parameters()),
        device=torch.device("cpu"),
    )


def train(toy: Toy, weighting: Weighting, steps: range) -> list[float]:
    optimizer = torch.optim.SGD(toy.parameters(), lr=0.01)
    seen = []
    for step in steps:
        torch.manual_seed(step)  # rlw and some aggregators draw
        optimizer.zero_grad()
        seen.append(weighting.backward(toy.losses(step)).item())
        optimizer.step()
        weighting.after_step(lambda step=step: toy.losses(step))
        if step % 3 == 2:
            weighting.end_epoch()
    return seen


def flat_gradient(parameters: object) -> Tensor:
    return torch.cat([p.grad.flatten() for p in parameters])


@pytest.mark.parametrize("name", ALL)
def test_every_weighting_trains_and_tells_what_it_did(name: str):
    toy = Toy()
    weighting = make(name, toy)
    first = [loss.item() for loss in toy.losses().values()]
    totals = train(toy, weighting, range(30))
    assert all(math.isfinite(total) for total in totals)
    assert sum(loss.item() for loss in toy.losses().values()) < sum(first)
    assert set(weighting.last) == set(TASKS)
    for row in weighting.last.values():
        assert row.loss > 0
        assert row.weight != 0
        assert row.weight.isfinite()


@pytest.mark.parametrize("name", ALL)
def test_a_saved_state_continues_exactly(name: str):
    toy = Toy()
    weighting = make(name, toy)
    train(toy, weighting, range(10))
    toy_again, file = copy.deepcopy(toy), io.BytesIO()
    torch.save(weighting.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    again = make(name, toy_again)
    again.load_state_dict(state)
    assert train(toy_again, again, range(10, 20)) == train(toy, weighting, range(10, 20))
    assert all(map(torch.equal, toy_again.parameters(), toy.parameters()))


@pytest.mark.parametrize("name", ALL)
def test_a_task_that_a_batch_lacks_gets_no_gradient(name: str):
    toy = Toy()
    weighting = make(name, toy)
    train(toy, weighting, range(3))
    toy.zero_grad()
    weighting.backward(toy.losses(5, tasks=("reg",)))
    assert set(weighting.last) == {"reg"}
    gone = [p.grad for p in toy.heads["cls"].parameters()]
    assert all(g is None or not g.any() for g in gone)
    assert flat_gradient(toy.shared.parameters()).norm() > 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("equal", lambda a, b: (1, 1)),
        ("fixed:1,30", lambda a, b: (2 / 31, 60 / 31)),
        ("gls", lambda a, b: (math.sqrt(a * b) / (2 * a), math.sqrt(a * b) / (2 * b))),
        ("uw", lambda a, b: (0.5, 0.5)),
        ("imtl_l", lambda a, b: (1, 1)),
        ("dwa", lambda a, b: (1, 1)),
        ("norm0", lambda a, b: (1 / a, 1 / b)),
        ("famo", lambda a, b: (1 / a / (1 / a + 1 / b), 1 / b / (1 / a + 1 / b))),
        (
            "uw_so:2",
            lambda a, b: torch.softmax(torch.tensor([1 / (2 * a), 1 / (2 * b)]), 0).tolist(),
        ),
    ],
)
def test_first_weights_by_hand(name: str, expected):
    toy = Toy()
    weighting = make(name, toy)
    losses = toy.losses()
    weights = expected(*(loss.item() for loss in losses.values()))
    gradients = [
        torch.autograd.grad(loss, list(toy.shared.parameters()), retain_graph=True)
        for loss in losses.values()
    ]
    weighting.backward(losses)
    assert [row.weight.item() for row in weighting.last.values()] == pytest.approx(weights)
    sums = [
        sum(w * g for w, g in zip(weights, pair, strict=True))
        for pair in zip(*gradients, strict=True)
    ]
    torch.testing.assert_close([p.grad for p in toy.shared.parameters()], sums)


@pytest.mark.parametrize("total", ["tasks", "one", "keep", "unit"])
def test_every_total_reaches_the_loss(total: str):
    toy = Toy()
    weighting = make("dao", toy, f"dao.total={total}")
    weighting.backward(toy.losses())
    rows = weighting.last.values()
    weights = sum(row.weight.item() for row in rows)
    norms = sum(row.norm.item() for row in rows)
    sizes = sum((row.weight * row.norm).item() for row in rows)
    found = {"tasks": weights / 2, "one": weights, "keep": sizes / norms, "unit": sizes}
    assert found[total] == pytest.approx(1)
    assert [name for name, value in found.items() if value == pytest.approx(1)] == [total]
    assert [row.share.item() for row in rows] == pytest.approx([0.5, 0.5])


def test_weights_are_bounded_only_where_settings_say_so():
    assert load_config().dao.max_ratio is None
    toy = Toy()
    free, bounded = make("dao", toy), make("dao", toy, "dao.max_ratio=1e4")
    losses = toy.losses()
    free.backward(losses | {"reg": 1e8 * losses["reg"]})
    losses = toy.losses()
    with pytest.warns(UserWarning, match=r"`max_ratio=10000` holds the weight of reg up"):
        bounded.backward(losses | {"reg": 1e8 * losses["reg"]})
    ratios = [w.last["cls"].weight / w.last["reg"].weight for w in (free, bounded)]
    assert ratios[0] > 1e6
    assert ratios[1].item() == pytest.approx(1e4)


def test_dwa_follows_the_ratio_of_epoch_means():
    toy = Toy()
    weighting = make("dwa:1", toy)
    for values in ((4.0, 2.0), (2.0, 2.0)):
        weighting.scalarizer(torch.tensor(values))
        weighting.end_epoch()
    weighting.backward(toy.losses())
    expected = 2 * torch.softmax(torch.tensor([0.5, 1.0]), 0)
    found = torch.stack([row.weight for row in weighting.last.values()])
    torch.testing.assert_close(found.float(), expected)


def test_uncertainty_weights_are_learned_towards_the_log_loss():
    # The optimum of exp(-s) L / 2 + s / 2 is s = log L.
    weighting = make("uw", Toy())
    weighting.optimizer.param_groups[0]["lr"] = 0.05
    for _ in range(800):
        leaf = torch.ones((), requires_grad=True)
        weighting.backward({"cls": 4.0 * leaf, "reg": None})
    assert weighting.scalarizer.log_var.tolist() == pytest.approx([math.log(4.0), 0.0], abs=1e-2)


def test_gradnorm_moves_weights_against_the_larger_gradient():
    toy = Toy()
    weighting = make("gradnorm", toy)
    assert isinstance(weighting, GradNorm)
    weighting.backward(toy.losses())
    rows = weighting.last
    assert rows["reg"].norm > rows["cls"].norm
    # Adam's first step is its learning rate; then the weights are brought back to sum 2.
    assert weighting.weight.tolist() == pytest.approx([1.025, 0.975], abs=1e-4)


def test_dual_balancing_sends_equal_norms_of_log_losses():
    toy = Toy()
    weighting = make("dbmtl:0.5", toy)
    assert isinstance(weighting, DualBalancing)
    losses = toy.losses()
    logs = [torch.log(loss + 1e-8) for loss in losses.values()]
    rows = [
        torch.cat(
            [
                g.flatten()
                for g in torch.autograd.grad(log, toy.shared.parameters(), retain_graph=True)
            ]
        )
        for log in logs
    ]
    largest = max(row.norm() for row in rows)
    weighting.backward(losses)
    expected = sum(row * largest / row.norm() for row in rows)
    torch.testing.assert_close(flat_gradient(toy.shared.parameters()), expected)


def test_heads_have_weight_one_under_an_aggregator_and_the_trunk_its_combination():
    toy = Toy()
    weighting = make("torchjd:Mean", toy)
    losses = toy.losses()
    expected = torch.autograd.grad(sum(losses.values()), list(toy.parameters()), retain_graph=True)
    weighting.backward(losses)
    shared = len(list(toy.shared.parameters()))
    found = [p.grad for p in toy.parameters()]
    torch.testing.assert_close(found[shared:], list(expected[shared:]))
    torch.testing.assert_close([2 * g for g in found[:shared]], list(expected[:shared]))
    assert [row.weight.item() for row in weighting.last.values()] == [0.5, 0.5]


def test_dao_gives_the_direction_of_imtl_g():
    directions = []
    for name in ("dao", "torchjd:IMTLG"):
        toy = Toy()
        make(name, toy).backward(toy.losses())
        directions.append(flat_gradient(toy.shared.parameters()))
    assert nn.functional.cosine_similarity(*directions, dim=0).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nashmtl", "should be one of dao, equal"),
        ("dao:2", "takes no number"),
        ("dwa:-1", "temperature > 0"),
        ("norm0:2.5", "whole number of steps"),
        ("autoscale:0", "whole number of steps, for example autoscale:20"),
        ("norm0:-3", "whole number of steps"),
        ("autoscale:abc", "whole number of steps"),
        ("fixed:1", "a weight for each of cls, reg"),
        ("fixed:1,x", "weight > 0"),
        ("torchjd:", "followed by an aggregator"),
        ("torchjd:UPGrad(1)", "followed by an aggregator"),
        ("torchjd:X(c={[]: 1})", "followed by an aggregator"),
        ("torchjd:__import__('os').x()", "followed by an aggregator"),
    ],
)
def test_what_is_no_weighting_is_refused(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        parse_weighting(text, TASKS)
    with pytest.raises(UserError, match="weighting"):
        load_config(flags={"weighting": text})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("torchjd:NoSuch", "should name an aggregator.*UPGrad"),
        ("torchjd:Krum", "cannot be made.*brackets"),
        ("torchjd:UPGrad(d=1)", "cannot be made"),
        ("torchjd:Krum(n_byzantine=0)", "cannot be made for 2 tasks"),
        ("torchjd:Constant(weights=[1.0, 2.0])", "cannot be made"),
        ("torchjd:WeightedAggregator", "should name an aggregator"),
        ("dbmtl:1", "beta below 1"),
    ],
)
def test_what_cannot_be_made_is_refused(text: str, message: str):
    with pytest.raises(UserError, match=message):
        make(text, Toy())


def test_numbers_have_defaults():
    assert parse_weighting("dwa", TASKS) == Spec("dwa", (2.0,))
    assert parse_weighting("torchjd:CAGrad(c=0.5)", TASKS).options == {"c": 0.5}


def test_a_batch_without_any_label_is_refused():
    for name in ("uw", "gradnorm", "dbmtl", "norm0", "autoscale", "torchjd:Mean"):
        with pytest.raises(UserError, match="a label of some task"):
            make(name, Toy()).backward({"cls": None, "reg": None})


def many(name: str, *overrides: str) -> tuple[Weighting, dict[str, Tensor | None]]:
    """Five tasks, tapped as the model does."""
    torch.manual_seed(0)
    shared, heads = nn.Linear(3, 4), nn.ModuleList(nn.Linear(4, 1) for _ in range(5))
    tasks = [f"t{k}" for k in range(5)]
    weighting = make_weighting(
        load_config(overrides=overrides, flags={"weighting": name, "tasks": ",".join(tasks)}),
        tasks,
        shared=lambda: list(shared.parameters()),
        trainable=lambda: [*shared.parameters(), *heads.parameters()],
        device=torch.device("cpu"),
    )
    z = weighting.tap(shared(torch.ones(2, 3)))
    losses = [(head(z) - 1).square().mean() for head in heads]
    return weighting, dict(zip(tasks, losses, strict=True))


@pytest.mark.parametrize("name", ["dao", "equal"])
def test_more_than_three_tasks_are_measured_at_the_representation(name: str):
    weighting, losses = many(name)
    weighting.backward(losses)
    # All compared with the norm over the parameters in the first step.
    assert weighting.loss.state.offset_count.tolist() == [1] * 5
    assert weighting.loss._planned().source == "rep"


@pytest.mark.parametrize("name", ["dao", "equal", "fixed:1,2,3,4,5"])
@pytest.mark.parametrize(
    ("settings", "plan"),
    [
        (["dao.refresh_every=7"], ("params", 7, 0)),
        (["dao.refresh_every=50", "dao.source=params"], ("params", 50, 0)),
        (["dao.refresh_every=50"], ("params", 50, 0)),
        (["dao.refresh_every=50", "dao.source=rep"], ("rep", 50, 0)),
        (["dao.source=rep"], ("rep", 10, 0)),
        (["dao.source=params"], ("params", 0, 25)),
    ],
)
def test_more_than_three_tasks_are_measured_as_the_settings_say(
    name: str, settings: list[str], plan: tuple[str, int, int]
):
    weighting, losses = many(name, *settings)
    weighting.backward(losses)
    assert weighting.loss.state.count.tolist() == [1] * 5
    assert weighting.loss.state.offset_count.tolist() == [0] * 5
    assert tuple(weighting.loss._planned()) == plan


@pytest.mark.parametrize("name", ["dao", "equal", "fixed:1,2,3,4,5"])
def test_every_arm_takes_the_norm_that_the_settings_name(name: str):
    weighting, _ = many(name, "dao.source=rep", "dao.rep_norm=frobenius")
    assert weighting.loss.rep_norm == "frobenius"


@pytest.mark.parametrize("source", ["params", "rep"])
@pytest.mark.parametrize("every", [50, 20])
def test_settings_of_a_run_that_began_before_mean_what_they_meant(
    tmp_path: Path, source: str, every: int
):
    """50 and `params` were the defaults, and left it to the loss."""
    (tmp_path / "config.yaml").write_text(f"dao: {{source: {source}, refresh_every: {every}}}\n")
    found = RunFolder(tmp_path).config()
    source = "auto" if source == "params" else source
    assert (found.dao.source, found.dao.refresh_every) == (source, None if every == 50 else every)
    # The same in the checkpoint, whose settings are compared with those of the folder.
    state = {"dao": yaml.safe_load((tmp_path / "config.yaml").read_text())["dao"]}
    assert completed(state)["dao"] == decisive(found)["dao"]


def test_settings_of_a_run_that_begins_now_mean_what_they_say(tmp_path: Path):
    cfg = load_config(overrides=["dao.source=params", "dao.refresh_every=50"])
    (tmp_path / "config.yaml").write_text(cfg.to_yaml())
    assert RunFolder(tmp_path).config() == cfg
    assert completed(decisive(cfg)) == decisive(cfg)
    assert (cfg.dao.source, cfg.dao.refresh_every) == ("params", 50)


@pytest.mark.parametrize("name", ["dao", "equal"])
def test_two_tasks_are_measured_as_ever(name: str):
    shared = nn.Linear(3, 4)
    (plan,) = {
        tuple(
            make_weighting(
                load_config(overrides=overrides, flags={"weighting": name}),
                ["a", "b"],
                shared=lambda: list(shared.parameters()),
                trainable=lambda: list(shared.parameters()),
                device=torch.device("cpu"),
            ).loss._planned()
        )
        for overrides in ([], ["dao.source=params", "dao.refresh_every=50"])
    }
    assert plan == ("params", 50, 0)


def test_the_table_of_aggregators_is_what_torchjd_has():
    aggregation = pytest.importorskip("torchjd.aggregation")
    made = {}
    for name in aggregation.__all__:
        found = getattr(aggregation, name)
        if not (inspect.isclass(found) and issubclass(found, aggregation.Aggregator)):
            continue
        arguments = set(inspect.signature(found).parameters)
        if not inspect.isabstract(found) and not {"weighting", "gramian_weighting"} & arguments:
            made[name] = arguments, issubclass(found, aggregation.WeightedAggregator)
    assert sorted(made) == sorted(gradient_weighting.AGGREGATORS)
    counting = [name for name, (arguments, _) in made.items() if "n_tasks" in arguments]
    assert counting == list(gradient_weighting.COUNTS_TASKS)
    # ConFIG has a weighting, by which it sums unit gradients, without the base class that says so.
    without = [name for name, (_, weighted) in made.items() if not weighted and name != "ConFIG"]
    assert sorted(without) == list(gradient_weighting.WITHOUT_WEIGHTS)


def test_the_table_of_scalarizers_is_what_torchjd_does():
    pytest.importorskip("torchjd")
    for name, method in METHODS.items():
        made = method.make(parse_weighting(name, ["a", "b"]), 2)
        assert method.looks_again == hasattr(made, "update"), name
        assert method.by_epoch == hasattr(made, "step"), name
        trained = any(True for _ in made.parameters()) and not method.looks_again
        assert method.learns == trained, name
