"""Runs train.py in forked children that are killed at random moments, and resumes them.

python killed_runs.py FOLDER KILLS SEED ARGUMENT...

Forked, because importing takes longer than a tiny run. Ends once so many children were killed, the
last run finished; every folder below FOLDER is then a finished run.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import dao.learner.pipeline.run  # noqa: F401
from dao.learner.dendrites.perforated import load_package
from train import app


def child(arguments: list[str], log: Path) -> int:
    """Start train.py in a fork; its process id."""
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        app(arguments, standalone_mode=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    finally:
        os._exit(code or 0)


def next_command(folder: Path, arguments: list[str]) -> list[str]:
    """What a user would do with a run that was killed."""
    if (folder / "checkpoints" / "latest").exists():
        return ["--resume", str(folder)]
    again = ["--overwrite"] if (folder / "history.jsonl").exists() else []
    return [*arguments, "--output", str(folder), *again]


def main(root: Path, kills: int, seed: int, arguments: list[str]) -> None:
    load_package()
    moments, log = random.Random(seed), root / "log.txt"
    begun = time.monotonic()
    assert os.waitpid(child([*arguments, "--output", str(root / "whole")], log), 0)[1] == 0
    length = time.monotonic() - begun
    killed, runs, moment_log = 0, 1, []
    folder = root / "run-0"
    while killed < kills or not (folder / "metrics.json").exists():
        if (folder / "metrics.json").exists():
            folder, runs = root / f"run-{runs}", runs + 1
        process = child(next_command(folder, arguments), log)
        if killed < kills:
            time.sleep(moments.uniform(0.02, length))
            os.kill(process, signal.SIGKILL)
        status = os.waitpid(process, 0)[1]
        if os.WIFSIGNALED(status):
            killed += 1
            state = sorted(p.name for p in folder.iterdir()) if folder.exists() else []
            moment_log.append(f"{folder.name}: {' '.join(state)}")
        elif os.WEXITSTATUS(status):
            raise SystemExit(f"exit {os.WEXITSTATUS(status)}: {log.read_text()[-2000:]}")
    print(f"{killed} kills, {runs} runs, {length:.1f} s each")
    print("\n".join(moment_log))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
