"""Shards of MDS beside MosaicML's streaming, which needs an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent / "mosaicml"
PACKAGES = ("mosaicml-streaming==0.13.0", "torch==2.13.0")


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_shards_are_those_of_mosaicml_and_its_dataset_reads_them(tmp_path: Path) -> None:
    source = shutil.copytree(ROOT / "sdk", tmp_path / "sdk", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    venv.create(tmp_path / "env", with_pip=True, symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    run([python, "-m", "pip", "install", "--quiet", str(source), *PACKAGES], tmp_path)
    run([python, HERE / "compare.py", tmp_path / "shards"], tmp_path)


def run(command: list[str | Path], folder: Path) -> None:
    (folder / "shards").mkdir(exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "PYTHONPATH"))}
    environment |= {"LAKEFEED_HOME": str(folder / "home"), "LAKEFEED_CACHE_DIR": str(folder / "cache")}
    environment["PYTHONPATH"] = str(HERE)  # a stand-in for torchvision
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-5_000:]}\n{done.stderr[-5_000:]}"
