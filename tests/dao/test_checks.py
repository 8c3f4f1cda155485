import warnings

import pytest
import torch

from dao import DAOLoss, UserError

TASKS = ["cls", "reg"]
PARAMETER = torch.nn.Parameter(torch.ones(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.3}, r"`alpha` should be in \[0, 1\]. Found 1.3. Use 1"),
        ({"ema": 1.0}, r"`ema` should be in \[0, 1\). Found 1.0."),
        ({"max_ratio": 0.5}, "`max_ratio` should be >= 1 or None. Found 0.5"),
        ({"refresh_every": 0}, "`refresh_every` should be an integer >= 1. Found 0"),
        ({"accumulate": 2.5}, "`accumulate` should be an integer >= 1. Found 2.5"),
        ({"calibrate_every": -1}, "`calibrate_every` should be an integer >= 0"),
        ({"source": "all"}, "`source` should be one of .*Found 'all'"),
        ({"absent": "skip"}, "`absent` should be one of"),
        ({"priors": {"clss": 2.0}}, r"`priors` should only name .*Found \['clss'\]"),
        ({"priors": {"cls": 0.0}}, r"`priors\['cls'\]` should be > 0. Found 0.0"),
        ({"params": None}, "`params` should be given"),
        ({"source": "last"}, "`module` should be given"),
        ({"alpha": "x"}, r"`alpha` should be in \[0, 1\]. Found 'x'"),
        ({"alpha": float("nan")}, "`alpha` should be .*Found nan"),
        ({"alpha": True}, "`alpha` should be .*Found True"),
        ({"ema": None}, r"`ema` should be in \[0, 1\). Found None"),
        ({"ema": float("nan")}, "`ema` should be .*Found nan"),
        ({"max_ratio": float("nan")}, "`max_ratio` should be >= 1 or None. Found nan"),
        ({"max_ratio": "4"}, "`max_ratio` should be >= 1 or None. Found '4'"),
        ({"refresh_every": True}, "`refresh_every` should be an integer >= 1. Found True"),
        ({"calibrate_every": False}, "`calibrate_every` should be an integer >= 0. Found False"),
        ({"source": ["params"]}, r"`source` should be one of .*Found \['params'\]"),
        ({"priors": [1, 2]}, r"`priors` should be a mapping .*Found \[1, 2\]"),
        ({"priors": {"cls": float("nan")}}, "`priors.*nan"),
        ({"priors": {"cls": "2"}}, r"`priors\['cls'\]` should be > 0. Found '2'"),
        ({"params": 3}, "`params` should be parameters or a function .*Found int"),
        ({"source": "rep", "params": None, "calibrate_every": 5}, "`params` should be given"),
    ],
)
def test_options_are_refused_with_what_was_found(options, message):
    with pytest.raises(UserError, match=message):
        DAOLoss(TASKS, **({"params": [PARAMETER]} | options))


@pytest.mark.parametrize(
    "tasks", [[], ["a", "a"], "cls", 3, None, [1, 2], {"a", "b"}, frozenset("ab"), ["a", ["b"]]]
)
def test_task_names_are_distinct_strings_in_an_order(tasks):
    with pytest.raises(UserError, match="`tasks` should be a list of distinct names") as caught:
        DAOLoss(tasks, params=[PARAMETER])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tasks", [dict.fromkeys(TASKS), dict.fromkeys(TASKS).keys(), iter(TASKS)])
def test_keys_and_generators_of_names_have_an_order(tasks):
    assert DAOLoss(tasks, params=[PARAMETER]).tasks == ("cls", "reg")


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        (
            {"clss": PARAMETER.sum()},
            r"should only name the tasks \['cls', 'reg'\]. Found \['clss'\]",
        ),
        ({"cls": PARAMETER * 2}, r"loss `cls` should be a tensor of shape \(\). Found \(2,\)"),
        ({"cls": 0.5}, "loss `cls` should be a tensor .*Found float"),
        ({"cls": PARAMETER.sum() * 1j}, "`cls` should be a real, dense number. Found torch.compl"),
        ({"cls": PARAMETER.sum().to_sparse()}, "`cls` should be a real, dense .*sparse_coo"),
        ({"cls": PARAMETER.sum().to("meta")}, "`cls` should be a real, dense .*Found meta"),
    ],
)
def test_losses_are_refused_with_what_was_found(losses, message):
    with pytest.raises(UserError, match=message):
        DAOLoss(TASKS, params=[PARAMETER])(losses)


def test_data_weights_must_name_tasks():
    with pytest.raises(UserError, match=r"`data_weights` should be a mapping .*Found list"):
        DAOLoss(TASKS, params=[PARAMETER])({"cls": PARAMETER.sum()}, [1.0, 2.0])
    with pytest.raises(UserError, match="`data_weights` should only name"):
        DAOLoss(TASKS, params=[PARAMETER])({"cls": PARAMETER.sum()}, {"reg2": 1.0})


def test_bad_input_is_an_ordinary_value_error():
    with pytest.raises(ValueError, match="alpha"):
        DAOLoss(TASKS, params=[PARAMETER], alpha=-1)


def test_a_detached_loss_is_warned_of_once_and_counts_as_absent():
    shared = torch.nn.Linear(2, 2)
    balance = DAOLoss(["a", "b"], params=shared.parameters)
    loss = shared(torch.ones(1, 2)).square().sum()
    with pytest.warns(UserWarning, match="'a' requires no grad"):
        balance({"a": loss.detach(), "b": loss})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        balance({"a": loss.detach(), "b": loss})
    assert set(balance.last) == {"b"}


@pytest.mark.parametrize(
    ("weight", "found"), [(float("nan"), "nan"), (-1.0, "-1.0"), (torch.ones(3), r"\(3,\)")]
)
def test_data_weights_that_no_loss_can_take(weight, found):
    shared = torch.nn.Linear(2, 2)
    balance = DAOLoss(["a"], params=shared.parameters)
    with pytest.raises(UserError, match=rf"data_weights\['a'\].*{found}"):
        balance({"a": shared(torch.ones(1, 2)).sum()}, {"a": weight})


def test_params_that_are_names_or_a_single_tensor():
    shared = torch.nn.Linear(2, 2)
    loss = shared(torch.ones(1, 2)).square().sum()
    for params in (shared.named_parameters, shared.state_dict()):
        with pytest.raises(UserError, match="named_parameters"):
            DAOLoss(["a", "b"], params=params)({"a": loss, "b": loss})
    single = DAOLoss(["a", "b"], params=shared.weight)
    single({"a": loss, "b": 3 * loss})
    assert single.telemetry()["a"]["weight"] == pytest.approx(2.0)  # norms 1 and 3


def test_losses_without_names():
    with pytest.raises(UserError, match="mapping"):
        DAOLoss(["a"], source="rep")([torch.ones(())])


def test_numbers_may_be_scalars_of_torch():
    half = DAOLoss(TASKS, params=[PARAMETER], priors={"cls": torch.tensor(2.0)}, alpha=0)
    assert half.state.prior.tolist() == [2.0, 1.0]
