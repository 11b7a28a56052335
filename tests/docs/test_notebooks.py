"""The notebooks run, give the outputs that they hold, and stay small."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples" / "notebooks").glob("*.ipynb"))
MAX_BYTES = 60_000
ABSOLUTE_PATH = re.compile(r"(?<![\w/])/(home|tmp|root|work|Users|dev)/")


def test_there_are_three() -> None:
    assert len(NOTEBOOKS) >= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_small_and_name_no_folder_of_a_machine(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text) < MAX_BYTES
    assert ABSOLUTE_PATH.search(text) is None
    cells = json.loads(text)["cells"]
    assert [cell["source"] for cell in cells if cell["cell_type"] == "code" and cell["execution_count"] is None] == []


@pytest.mark.live
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")  # of Jupyter's packages
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_gives_its_outputs(path: Path, tmp_path: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(path, as_version=4)
    stored = _texts(notebook)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    assert _texts(notebook) == stored


def _texts(notebook: Any) -> list[str]:
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [output.get("text") or output.data["text/plain"] for output in outputs]
