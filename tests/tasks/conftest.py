from collections.abc import Callable, Sequence

import pandas as pd
import pytest

from tasks.table import Columns, Table


@pytest.fixture
def table() -> Callable[..., Table]:
    """Build a table of one task from its values and splits ("tr", "va", "te" or all train)."""

    def build(task: str, values: Sequence[object], splits: str = "") -> Table:
        names = {"tr": "train", "va": "validation", "te": "test"}
        split = [names[part] for part in splits.split()] or ["train"] * len(values)
        frame = pd.DataFrame({"text": [f"text {i}" for i in range(len(values))], "split": split})
        frame[task] = pd.Series(values, dtype=object)
        return Table(frame, Columns(), {})

    return build


@pytest.fixture
def csv(tmp_path) -> Callable[..., str]:
    """Write a file and return its path."""

    def write(content: str, name: str = "data.csv", encoding: str = "utf-8") -> str:
        path = tmp_path / name
        path.write_text(content, encoding=encoding, newline="")
        return str(path)

    return write
