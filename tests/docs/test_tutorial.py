"""The tutorial runs from its first cell to its last, and shows what it printed."""

import json
import os
import shlex
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "tutorial.ipynb"


def printed(cells: list[dict]) -> str:
    outputs = [o for cell in cells for o in cell.get("outputs", [])]
    return "".join("".join(o.get("text", o.get("data", {}).get("text/plain", ""))) for o in outputs)


def test_the_notebook_is_kept_with_what_it_printed():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == [*range(1, len(code) + 1)]
    assert all(cell["outputs"] for cell in code)
    assert "site-packages" not in NOTEBOOK.read_text()


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, warm_python: str, monkeypatch: pytest.MonkeyPatch):
    import nbformat
    from nbclient import NotebookClient

    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    # The command `dao` on this project, in a process that has its libraries already. It trains for
    # one epoch of the four, which is long enough for every cell.
    command = tmp_path / "bin" / "dao"
    command.parent.mkdir()
    shorter = '[ "$1" = train ] && set -- "$@" train.epochs=1\n'
    command.write_text(f'#!/bin/sh\n{shorter}exec {shlex.quote(warm_python)} -m dao "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    paths = [str(NOTEBOOK.parents[1]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    kernel = tmp_path / "jupyter" / "kernels" / "warm" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    start = [warm_python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    about = {"argv": start, "display_name": "warm", "language": "python"}
    kernel.write_text(json.dumps(about))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, kernel_name="warm", resources=place).execute()
    told = printed(notebook.cells)
    for task in ("topic (classification", "urgent (binary", "stars (ordinal", "minutes (regr"):
        assert f"test: {task}" in told
    assert told.count("this model") == 4
    assert "400 predictions in answers.csv" in told
    assert (tmp_path / "run" / "metrics.json").exists()
