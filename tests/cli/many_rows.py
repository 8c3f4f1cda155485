"""Reads, splits, tokenises and batches a CSV of many rows: `many_rows.py FOLDER ROWS ENCODER`.

Prints the number of batches, and the peak of memory in MiB before and after.
"""

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from dao.learner.batches import tokens
from dao.learner.batches.batching import collate, epoch_batches
from dao.learner.batches.token_cache import TokenCache
from dao.learner.data.reading import progress
from dao.learner.encoder.find import locate
from dao.learner.encoder.load import load_tokenizer
from dao.learner.inference.predictor import Predictor
from dao.learner.pipeline.start import load_data
from dao.learner.settings.config import load_config

WORDS = "profit loss sales costs net rose fell sharply slightly the company of in said".split()


def write(path: Path, rows: int) -> None:
    """Texts of about 110 characters."""
    draw = random.Random(0)
    with path.open("w") as file:
        file.write("id,text,label,score\n")
        for i in range(rows):
            text = " ".join(draw.choices(WORDS, k=18))
            file.write(f"{i},{text} {i},{draw.choice(['up', 'down'])},{draw.random():.3f}\n")


def peak() -> float:
    """Of this program: what `getrusage` tells begins with that of the one which started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (found,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(found) / 2**10


def main(folder: Path, rows: int, encoder: str) -> None:
    path = folder / "many.csv"
    write(path, rows)
    before = peak()
    _, table, fitted = load_data(load_config(None, [], {"data.sources": str(path)}))
    cache = TokenCache(folder / "cache", lambda line: print(line, file=sys.stderr))
    model = Predictor(None, load_tokenizer(locate(encoder)), 128, cache)  # only its tokenizer
    examples = model.examples(table.rows("train"), fitted)
    batches = epoch_batches(examples.lengths, 32, 0, 0)
    for chosen in batches[:20]:
        collate(examples, chosen, 0, torch.device("cpu"))
    print(len(batches), before, peak())


if __name__ == "__main__":
    progress.EVERY = tokens.EVERY = float(sys.argv[4]) if len(sys.argv) > 4 else 5.0
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
