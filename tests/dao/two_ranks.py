"""One rank of two: `python two_ranks.py RANK FOLDER` writes what it computed to FOLDER/RANK.pt.

Each case is computed twice: before the process group exists, on the joined batch, and as one rank.
"""

import gc
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dao import DAOLoss, adapter_norm, keep_alive
from dao.distributed import mean_adapter_norms

TASKS = ["cls", "reg"]
HALVES = {None: slice(0, 16), 0: slice(0, 8), 1: slice(8, 16)}
CASES = {
    "params": {"source": "params"},
    "last": {"source": "last"},
    "adapter, matrices travel": {"source": "rep"},
    "adapter, rows travel": {"source": "rep", "width": 64},
    "frobenius": {"source": "rep", "rep_norm": "frobenius"},
    "calibrated": {"source": "rep", "calibrate_every": 1},
    "find unused": {"source": "rep", "find_unused": True},
    "absent, params": {"source": "params", "absent_on": 1},
    "absent, rep": {"source": "rep", "absent_on": 1},
    "nan": {"source": "params", "absent_on": 0, "nan": True},
}


class Model(nn.Module):
    def __init__(self, toy, balance):
        super().__init__()
        self.toy, self.balance = toy, balance

    def forward(self, x):
        z = self.balance.tap(self.toy.encoder(x))
        return self.toy.heads["cls"](z), self.toy.heads["reg"](z)[:, 0]


def two_steps(rank, *, width=6, absent_on=None, nan=False, find_unused=False, **options):
    """Two steps of a fresh model on this rank's half of the batch, the whole for rank None."""
    from conftest import Toy, batch

    torch.manual_seed(0)
    toy = Toy(width)
    shared = {"params": toy.shared(), "module": toy.encoder[2]}
    balance = DAOLoss(TASKS, refresh_every=1, **shared, **options)
    model = Model(toy, balance)
    if rank is not None:
        model = DistributedDataParallel(model, find_unused_parameters=find_unused)
    rows, found = HALVES[rank], []
    for seed in range(2):
        x, label, score = (part[rows] for part in batch(16, seed))
        logits, guess = model(x)
        losses = {"cls": nn.functional.cross_entropy(logits, label)}
        squares = (guess - score).square()
        extra = torch.zeros(())
        if absent_on is None:
            losses["reg"] = squares.mean()
        elif rank is None:  # the labels of one half are missing
            losses["reg"] = squares[HALVES[1 - absent_on]].mean()
        elif rank != absent_on:
            losses["reg"] = squares.mean()
        else:
            losses |= {"reg": squares.mean() * torch.nan} if nan else {}
            extra = keep_alive(guess)
        toy.zero_grad()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            (balance(losses) + extra).backward()
        gradient = torch.cat([p.grad.flatten() for p in toy.parameters()])
        table = torch.tensor([list(row.values()) for row in balance.telemetry().values()])
        found.append({"gradient": gradient, "telemetry": table})
    return found


def uneven_rows(rank):
    """Adapter norms of three rows on one rank and seven on the other; a task on the first only."""
    found = []
    for width in (2, 40):
        generator = torch.Generator().manual_seed(5)
        g, z = torch.randn(2, 10, width, generator=generator).double()
        if rank is None:
            found.append(torch.stack([adapter_norm(g, z) / 2, adapter_norm(g[:3], z[:3])]))
            continue
        rows = slice(0, 3) if rank == 0 else slice(3, 10)
        alone = g[rows] * (rank == 0)
        found.append(mean_adapter_norms([g[rows], alone], z[rows], ranks=[2, 1]))
    return torch.cat(found)


class Words(nn.Module):
    """Rows of a sparse embedding, some of them several times; ranks share some and not others."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.shared = nn.Embedding(9, 4, sparse=True)
        self.phase = nn.Parameter(torch.randn(4, dtype=torch.complex64))
        self.bias = nn.Parameter(torch.randn(4, dtype=torch.float64))

    def losses(self, ids):
        z = self.shared(ids).mean(1) * self.phase.real + self.phase.imag + self.bias
        return {"cls": 1e-30 * z.square().mean(), "reg": 1e-60 * z.exp().mean()}


def unusual_gradients(rank):
    """Norms over a sparse, a complex and a float64 parameter."""
    ids = torch.tensor([[1, 1, 2], [3, 1, 3], [4, 4, 4], [1, 5, 2]])
    words = Words()
    balance = DAOLoss(TASKS, params=words.parameters())
    balance(words.losses(ids[{None: slice(0, 4), 0: slice(0, 2), 1: slice(2, 4)}[rank]]))
    return torch.tensor([row["norm"] for row in balance.telemetry().values()], dtype=torch.float64)


def half_precision(rank):
    """Weights where one loss is too small for float16."""
    from conftest import Toy, batch

    toy = Toy(scale=1e-8)
    x, label, score = (part[HALVES[rank]] for part in batch(16, 3))
    balance = DAOLoss(TASKS, params=toy.shared(), max_ratio=None)
    with torch.autocast("cpu", torch.float16):
        losses = toy.losses(toy.encoder(x), label, score)
    return torch.stack(list(balance.weights(losses).values()))


SHARDED = {
    "rep": ({"source": "rep"}, {}),
    "rep, frobenius": ({"source": "rep", "rep_norm": "frobenius"}, {}),
    "params, whole": ({"source": "params"}, {"reshard_after_forward": False}),
    "params, parts": ({"source": "params"}, {}),
    "last, parts": ({"source": "last"}, {}),
}


def sharded(rank):
    """Two steps with `fully_shard`, the encoder a unit of its own; or what is said to it."""
    from conftest import Toy, batch

    found = {}
    for name, (options, keep) in SHARDED.items():
        torch.manual_seed(0)
        toy = Toy()
        shared = {"params": toy.encoder.parameters, "module": toy.encoder}
        balance = DAOLoss(TASKS, refresh_every=1, **shared, **options)
        model = Model(toy, balance)
        if rank is not None:
            from torch.distributed.device_mesh import init_device_mesh
            from torch.distributed.fsdp import fully_shard

            mesh = init_device_mesh("cpu", (2,))
            fully_shard(toy.encoder, mesh=mesh, **keep)
            fully_shard(model, mesh=mesh)
        optimizer = torch.optim.SGD(toy.parameters(), lr=0.1)
        weights = []
        try:
            for seed in range(2):
                x, label, score = (part[HALVES[rank]] for part in batch(16, seed))
                logits, guess = model(x)
                losses = {
                    "cls": nn.functional.cross_entropy(logits, label),
                    "reg": (guess - score).square().mean(),
                }
                balance(losses).backward()
                optimizer.step()
                optimizer.zero_grad()
                weights += [row["weight"] for row in balance.telemetry().values()]
            found[name] = torch.tensor(weights)
        except ValueError as error:
            found[name] = str(error)
    return found


def freely_sharded(_):
    """What is said to FullyShardedDataParallel, around the model and around the encoder."""
    from conftest import Toy, batch
    from torch.distributed.fsdp import FullyShardedDataParallel

    said = []
    for source in ("rep", "params"):
        for whole in (True, False):
            toy = Toy()
            balance = DAOLoss(TASKS, source=source, params=toy.encoder.parameters)
            model = Model(toy, balance)
            device = torch.device("cpu")
            if whole:
                model = FullyShardedDataParallel(model, device_id=device)
            else:
                toy.encoder = FullyShardedDataParallel(toy.encoder, device_id=device)
            logits, guess = model(batch(8)[0])
            try:
                balance({"cls": logits.square().mean(), "reg": guess.square().mean()})
            except (ValueError, RuntimeError) as error:
                said.append(str(error))
    return said


def nothing_anywhere(rank):
    """What a rank says to a batch without any task, and to one where only it has none."""
    p = torch.ones(1, requires_grad=True)
    balance = DAOLoss(TASKS, params=[p])
    try:
        balance({})
    except ValueError as error:
        said = str(error)
    total = balance({"cls": 3 * p.sum()} if rank == 0 else {})
    return {"said": said, "total": total.item(), "weight": balance.telemetry()["cls"]["weight"]}


def many_tasks(rank):
    """Weights of ten tasks until one more has had its turn; the last task is on one rank only."""
    from conftest import Toy, batch

    tasks, found = [f"t{k}" for k in range(10)], []
    for tapped, steps in ((False, 26), (True, 51)):
        torch.manual_seed(0)
        toy = Toy()
        heads = nn.ModuleList(nn.Linear(6, 1) for _ in tasks)
        balance = DAOLoss(tasks, params=toy.encoder.parameters)
        for step in range(steps):
            x = batch(16, step)[0][HALVES[rank]]
            z = toy.encoder(x)
            z = balance.tap(z) if tapped else z
            rows = {task: 3.0**k * (heads[k](z) - k)[:, 0].square() for k, task in enumerate(tasks)}
            if rank is None:
                rows["t9"] = rows["t9"][HALVES[0]]
            elif rank == 1:
                del rows["t9"]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                weights = balance.weights({task: row.mean() for task, row in rows.items()})
            if step in (0, 25, 50):
                found += weights.values()
        found.append(balance.state.credit.sum())
    return torch.stack(found)


OTHERS = {
    "many": many_tasks,
    "uneven": uneven_rows,
    "unusual": unusual_gradients,
    "half": half_precision,
    "sharded": sharded,
}
ALONE = {"nothing": nothing_anywhere, "FSDP1": freely_sharded}


def main(rank, folder):
    torch.set_num_threads(1)
    expected = {name: two_steps(None, **case) for name, case in CASES.items()}
    for name, case in OTHERS.items():
        expected[name] = case(None)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=len(HALVES) - 1
    )
    found = {name: two_steps(rank, **case) for name, case in CASES.items()}
    for name, case in (OTHERS | ALONE).items():
        found[name] = case(rank)
    torch.save({"expected": expected, "found": found}, Path(folder) / f"{rank}.pt")
    dist.barrier()
    # Wrapped models hold the group, whose threads have to end before the interpreter does.
    gc.collect()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
