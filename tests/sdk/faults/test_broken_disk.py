"""Every writer on a disk that refuses one call after the other; see ``broken_disk.py``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SECONDS = 1_800


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes calls fail."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs Linux and a C compiler")
    built = tmp_path_factory.mktemp("library") / "broken_disk.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(built), str(HERE / "broken_disk.c"), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return built


def run(library: Path, *sweeps: str) -> None:
    """Runs sweeps, each ``scenario:fault:step``."""
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    command = [sys.executable, str(HERE / "broken_disk.py"), *sweeps]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr[-5_000:]
    assert done.stdout.count("calls") == len(sweeps)


@pytest.mark.live
def test_a_write_that_fails_leaves_nothing_and_says_where(library: Path) -> None:
    run(library, "append:full:7", "append:io:13", "edit:full:9", "blobs:io:17", "cache:io:19")


@pytest.mark.soak
@pytest.mark.parametrize("fault", ["full", "quota", "io", "denied", "full-once"])
@pytest.mark.parametrize("scenario", ["append", "create", "edit", "settle", "blobs", "cache", "spill"])
def test_every_call_of_every_writer_may_fail(library: Path, scenario: str, fault: str) -> None:
    run(library, f"{scenario}:{fault}:1")
