"""Named task losses in, one balanced loss out."""

import copy
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal, Self, cast

import torch
from torch import Tensor, nn

from dao.checks import check_data_weights, check_options, check_some, scalar_losses, task_names
from dao.distributed import world_size
from dao.importance import inverse_norm_weights
from dao.measure import LiveLosses, depends, parameter_norms, representation_norms, survey
from dao.notices import PLACES, beyond_the_bound, constant, frozen
from dao.records import CallRecord, TaskRecord, numbers, record_of, weighted_sum
from dao.schedule import MeasuringPlan, chosen, in_turn, measuring_plan
from dao.shared import Parameters, Places, exporting
from dao.state import RunningNorms

__all__ = ["DAOLoss"]

# Used in calls, not as a decorator: that would import the compiler, seconds long, with the package.
_uncompiled: Callable[..., Callable[..., object]] = torch.compiler.disable


class DAOLoss(nn.Module):
    r"""Adds up task losses so that no task drowns the others in the shared parameters.

    .. math:: L = \sum_{k \in A} \lambda_k w_k L_k, \qquad
              \lambda_k = S \frac{p_k e^{-\alpha s_k}}{\sum_j p_j e^{-\alpha s_j}}

    - :math:`A`: tasks whose loss is present, requires grad and is finite, and whose gradient, if
      it was measured, is finite. What is not finite is left out, counted, and warned of once; a
      loss without a graph counts as absent, and is warned of once, too;
    - :math:`s_k`: running mean of :math:`\log n_k`, with :math:`n_k` the norm of the gradient of
      :math:`L_k` alone (so a data weight cannot cancel out);
    - :math:`w_k`: optional data weight of the batch, default 1; :math:`p_k`: prior, default 1;
    - :math:`S`: set by `total`. :math:`\lambda` and :math:`w` carry no gradient.

    The rule is that of DAO (arXiv 2408.11856) as published summaries of the paper give it; they
    agree with each other, but leave open which norm is meant, over which parameters, and the
    formula of :math:`w_k`. For two tasks it equals IMTL-G (ICLR 2021). Logarithms, running means,
    totals other than 1, and the treatment of absent tasks are ours; :meth:`paper` is the bare rule.

    **When norms are measured.** A measurement over `params` costs one more backward per task, at
    the representation next to nothing. So with the defaults a step costs at most about 5 % more:

    - If :meth:`tap` sees the representation, norms are measured there at every step (more than
      three tasks: every 10 steps), and one task every 50 steps is compared with its norm over
      `params`.
    - Otherwise, up to three tasks are measured over `params` at a task's steps 0, 1, 4, 16 and
      then every 50, counting only steps that have the task (so batches that alternate between
      tasks measure each). Norms of single batches scatter by a factor of two: weights taken from
      the first batch alone would be wrong for a whole period.
    - Of more tasks, one every 25 steps is measured over `params`, the first eight at once; a later
      one waits, and until its turn its first loss stands in for its norm.

    `refresh_every` measures all tasks at once, at 0, 1, 4, 16, ... below it and then every
    `refresh_every` steps, over `params` unless `source` says otherwise, whatever it costs.

    **What `ema` means.** It counts measurements, not steps: old ones fade over about
    ``1 / (1 - ema)`` measurements: 10 for 0.9, i.e. 500 steps where all is measured every 50. The
    n-th measurement enters with weight ``max(1 - ema, 1 / n)``, so the young mean is a plain mean
    and the first batch has no privilege.

    **While nothing shared trains**, e.g. with a frozen encoder, weights stand as they are, and what
    is due for measurement stays due. All ranks have to freeze together.

    **Copies.** A deep copy, or pickle, of a model that holds this loss trains by itself. A `params`
    that is a lambda cannot follow (give ``encoder.parameters``) or be pickled. A deep copy of the
    loss alone goes on with the parameters of the original; to save it alone, save its state.

    **Cost beside that.** A training call waits for the losses, to see which are finite: a NaN can
    only be kept out of the graph by not adding it (`check_finite` is the way around). With several
    ranks, one message of 3 K numbers.

    Args:
        tasks: Names of the tasks, in an order that is the same on all ranks: no set.
        source: Where the norm is taken: ``"params"``, the shared parameters (exact);
            ``"auto"``, these as well, but with a tap and no `refresh_every` as said above;
            ``"rep"``, the representation given to :meth:`tap` (nearly free, and the only choice
            with a compiled encoder, reentrant checkpointing or DeepSpeed; with ``fully_shard``
            see docs/dao.md);
            ``"last"``, the parameters of `module`, e.g. the last block.
        params: Shared parameters, or a function that returns them, asked again at every
            measurement (for a model that grows, or is sharded or loaded after this was built).
            Duplicates and frozen ones are skipped. Sparse gradients are measured as well.
        module: The module for ``"last"``.
        rep_norm: :func:`dao.adapter_norm` or :func:`dao.frobenius_norm`, for ``"rep"``.
        alpha: 1 evens gradients out fully, 0 gives equal weights (and the same telemetry).
        ema: Smoothing of log norms, see above; 0 keeps only the last measurement.
        priors: What tasks are worth, by name, > 0. Part of the state: loading one restores its
            priors.
        max_ratio: Upper bound of largest / smallest weight, told of where it binds; None for none.
        total: What the weights sum to. ``"keep"``: weighted norms sum to what the norms sum to, so
            that steps are as large as with equal weights; ``"unit"``: to 1, at any scale of the
            losses. ``"tasks"``, ``"one"``: weights sum to the number of tasks or to 1; one tiny
            loss then makes the step tiny, which matters to SGD. Norms are the means in force.
        refresh_every: Optimizer steps between measurements of all tasks; 1 measures always.
            Default: as said above.
        accumulate: Micro-batches per optimizer step. Weights are frozen within a step, as its first
            micro-batch left them, and `ema` acts per micro-batch as ``ema ** (1 / accumulate)``.
        calibrate_every: For ``"rep"`` and ``"last"``: optimizer steps between comparisons with the
            norm over `params`, whose mean log ratio is then added to :math:`s_k`; 0 for never.
        absent: With a task missing, the others keep their weights (``"hold"``) or share the sum
            among themselves (``"renormalize"``). A task that was never measured counts as average,
            so weights move when it first comes.
        check_finite: ``"always"``, or only when norms are ``"measured"``: the calls between, if
            there are any, do not wait for the device, and a NaN in them reaches the parameters. For
            loops that look at their losses themselves; several ranks check always.

    Raises:
        UserError: An argument, a task name or a loss cannot be used, or no loss is usable.
        RuntimeError: Norms cannot be measured on this graph; the message says what to change.

    Example:
        >>> import torch
        >>> shared = torch.nn.Linear(2, 2)
        >>> balance = DAOLoss(["cls", "reg"], params=shared.parameters())
        >>> z = shared(torch.ones(4, 2))
        >>> loss = balance({"cls": z.square().mean(), "reg": 100 * z.square().mean()})
        >>> loss.backward()
        >>> {task: round(row["share"], 6) for task, row in balance.telemetry().items()}
        {'cls': 0.5, 'reg': 0.5}
    """

    def __init__(
        self,
        tasks: Iterable[str],
        *,
        source: Literal["auto", "params", "rep", "last"] = "auto",
        params: Parameters | None = None,
        module: nn.Module | None = None,
        rep_norm: Literal["adapter", "frobenius"] = "adapter",
        alpha: float = 1.0,
        ema: float = 0.9,
        priors: Mapping[str, float] | None = None,
        max_ratio: float | None = None,
        total: Literal["tasks", "one", "keep", "unit"] = "keep",
        refresh_every: int | None = None,
        accumulate: int = 1,
        calibrate_every: int = 0,
        absent: Literal["hold", "renormalize"] = "hold",
        check_finite: Literal["always", "measured"] = "always",
    ) -> None:
        super().__init__()
        self.source, self.rep_norm, self.total, self.absent = source, rep_norm, total, absent
        self.alpha, self.ema, self.max_ratio = alpha, ema, max_ratio
        self.refresh_every, self.accumulate = refresh_every, accumulate
        self.calibrate_every, self.check_finite = calibrate_every, check_finite
        self.tasks = task_names(tasks)
        check_options(self.tasks, priors or {}, vars(self))
        self._places = Places(source, params, module, compares=calibrate_every > 0)
        self._plan: MeasuringPlan | None = None  # settled by the first training call
        prior = [float((priors or {}).get(task, 1.0)) for task in self.tasks]
        self.state = RunningNorms(self.tasks, ema=ema ** (1 / accumulate), prior=prior)
        self.state.alpha = alpha if max_ratio is None else 0.0  # a bound has a notice of its own
        self.measured = False
        self._record: CallRecord | None = None

    @classmethod
    def paper(cls, tasks: Iterable[str], params: Parameters) -> Self:
        """The published rule: weights from this batch's norms over `params`, summing to 1.

        It measures at every step and keeps nothing but the last norms, which stand in when a
        task's gradient is exactly zero (the bare rule would then stop all other tasks).
        """
        return cls(
            tasks, params=params, source="params", total="one", ema=0.0, refresh_every=1,
            absent="renormalize",
        )  # fmt: skip

    def tap(self, z: Tensor) -> Tensor:
        """Remembers the shared representation for ``"rep"`` and returns it unchanged.

        Call it inside the model's forward, before the heads: wrappers (DDP, mixed precision) copy
        or cast what a model returns, and a copy is not in the graph of the losses.
        """
        if torch.compiler.is_compiling() and self._learning():
            return cast(Tensor, _uncompiled(self.tap)(z))
        if not torch.compiler.is_compiling():
            self._places.tapped.see(z, self.training)
        return z

    def forward(
        self,
        losses: Mapping[str, Tensor | None],
        data_weights: Mapping[str, Tensor | float] | None = None,
    ) -> Tensor:
        """The balanced sum, a scalar of at least float32, for one backward by the caller.

        In eval mode or without gradients: the sum with the weights as they stand; nothing is
        measured, exchanged or changed.

        Args:
            losses: A scalar per task, before any gradient scaler; None or no entry for a task that
                this batch lacks.
            data_weights: A scalar per task, applied after the weights were chosen; see
                :func:`dao.weighted_loss`.
        """
        if torch.compiler.is_compiling() and self._learning():
            return cast(Tensor, _uncompiled(self.forward)(losses, data_weights))
        check_data_weights({} if data_weights is None else data_weights, self.tasks)
        batch, lam = self._choose(losses, data_weights or {})
        ranks = world_size() if self._learning() else 1
        if not batch.live:  # Absent on this rank only; the caller's `keep_alive` gives the graph.
            return torch.zeros((), device=self.state.norm.device)
        # A data-parallel wrapper averages over all ranks; a task's own mean is over those that
        # have it. With one rank, or a task on all of them, this changes nothing.
        factors = {task: lam[task] for task in batch.live}
        for task in batch.live:
            if batch.ranks[task] < ranks:
                factors[task] = lam[task] * (ranks / batch.ranks[task])
        return weighted_sum(batch.live, factors, data_weights or {})

    def weights(self, losses: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
        """The weights alone, float64 scalars by task, for a loop that combines losses itself.

        A full training call that measures and counts as a step: use it instead of calling the
        loss, not beside it. It fills no ``.grad`` and accumulates into no parameter, so the hooks
        of data-parallel wrappers stay quiet.
        """
        return self._choose(losses, {})[1]

    def is_due(self, losses: Mapping[str, Tensor | None]) -> bool:
        """Whether the next training call, with these losses, measures norms."""
        self.state.ensure()
        present = [t for t, loss in losses.items() if loss is not None and loss.requires_grad]
        plan = self._planned()
        return any(self._due(plan, present)) and not self._places.frozen(plan.source)

    @property
    def last(self) -> dict[str, TaskRecord]:
        """A record per task that counted in the last training call; no synchronisation.

        Empty before the first; a task that was absent has none.
        """
        return self._record.by_task() if self._record else {}

    def telemetry(self) -> dict[str, dict[str, float]]:
        """:attr:`last` as numbers, by task; one synchronisation.

        `loss` and `weight` of the call, `norm` as last measured, and `share`: the task's part of
        the sum of all weighted norms.
        """
        return numbers(self.last)

    def reset(self) -> None:
        """Forgets all measurements; options and priors stay."""
        self.state.reset()
        self._places.tapped.forget()
        self._record, self.measured, self._plan = None, False, None

    def extra_repr(self) -> str:
        """The options that decide the weights."""
        names = ("source", "alpha", "ema", "max_ratio", "total", "refresh_every", "absent")
        options = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{list(self.tasks)}, {options}"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy of its own; see "Copies" above for whose gradients it measures."""
        if not memo:  # copied alone: nobody would train a copy of the parameters
            memo |= {id(kept): kept for kept in (self._places.params, self._places.last)}
        copied = memo[id(self)] = self.__class__.__new__(self.__class__)
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied

    def _learning(self) -> bool:
        return self.training and torch.is_grad_enabled() and not exporting()

    def _choose(
        self, losses: Mapping[str, Tensor | None], data_weights: Mapping[str, Tensor | float]
    ) -> tuple[LiveLosses, dict[str, Tensor]]:
        """The losses that count and their weights; in training, after learning from them."""
        self.state.ensure()
        given = scalar_losses(losses, self.tasks)
        if not self._learning():
            check_some(given, self.tasks)
            return LiveLosses(given, dict.fromkeys(given, 1), {}), self._lambda(list(given))
        self.state.tell("constant", constant(given))
        lone = self.check_finite == "measured" and world_size() == 1
        trusted = lone and not self.is_due(given)
        batch, broken = survey(given, self.tasks, trusted=trusted)
        self.state.drop(broken)
        check_some(batch.ranks, self.tasks)
        batch = self._learn(batch)
        check_some(batch.ranks, self.tasks)
        lam = self._lambda(list(batch.ranks))
        self._record = record_of(self.state, batch, lam, data_weights)
        return batch, lam

    def _planned(self) -> MeasuringPlan:
        """Where and how often norms are measured."""
        given = (self.source, len(self.tasks), self.refresh_every)
        return self._plan or measuring_plan(*given, tapped=self._places.tapped.seen)

    def _due(self, plan: MeasuringPlan, present: list[str]) -> tuple[list[str], list[str]]:
        """Of the tasks of a call: whose norm is due, and which are compared."""
        turns = self.state.turns_of(present)
        steps = {task: turn // self.accumulate for task, turn in turns.items()}
        turn = in_turn(self.state.credit_of(present)) if plan.gap else []
        return chosen(plan, steps, turn, self.calibrate_every)

    def _learn(self, batch: LiveLosses) -> LiveLosses:
        """Measures the tasks whose time it is, moves the state, and drops broken gradients."""
        present = list(batch.ranks)
        plan = self._plan = self._planned()
        measured, compared = self._due(plan, present)
        if measured and self._places.frozen(plan.source):
            if not self.state.has_told("frozen") and not self.state.count.any():
                self.state.tell("frozen", {"": frozen(plan.source)})
            measured, compared, present = [], [], []  # what is due stays due
        self.state.take_turns(plan, {t: batch.values[t] for t in present}, self.accumulate)
        step = self.state.tick(present)
        norms = self._measure(plan, batch.only(measured)) if measured else {}
        if compared and (shared := self._places.params.trainable()):
            part = batch.only(compared)
            full = parameter_norms(part.live, part.ranks, shared)
            self.state.calibrate(full, norms)
        inputs = partial(self._places.inputs, plan.source)
        broken = self.state.observe(
            norms, lambda task: depends(batch.live.get(task), inputs()), PLACES[plan.source]
        )
        self.state.drop(broken)
        self.state.put_in_force(everything=step % self.accumulate == 0)
        self.measured = bool(measured)
        self._places.tapped.forget()
        return batch.only([task for task in batch.ranks if task not in broken])

    def _measure(self, plan: MeasuringPlan, batch: LiveLosses) -> dict[str, Tensor]:
        if plan.source == "rep":
            z = self._places.tapped.z
            return representation_norms(batch.live, batch.ranks, z, self.rep_norm)
        return parameter_norms(batch.live, batch.ranks, self._places.inputs(plan.source))

    def _lambda(self, present: list[str]) -> dict[str, Tensor]:
        """Weights in force for the tasks that are present."""
        among = list(self.tasks) if self.absent == "hold" else present
        index = torch.tensor(self.state.positions(among)).to(self.state.prior.device)
        log_norms, prior = self.state.log_norms()[index], self.state.prior[index]
        lam = inverse_norm_weights(
            log_norms, alpha=self.alpha, prior=prior, max_ratio=self.max_ratio, total=self.total
        )
        # Looked at where norms were measured: the calls between do not wait for the device.
        if self.max_ratio is not None and self.measured and self._learning():
            said = beyond_the_bound(among, log_norms, self.alpha, prior, self.max_ratio)
            self.state.tell("max_ratio", said)
        by_name = dict(zip(among, lam.unbind(), strict=True))
        return {task: by_name[task] for task in present}
