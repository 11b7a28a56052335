"""The demo on one home, again and again, also after everything of it was killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from dataset_assets.demo.server import Server
from lakefeed import Dataset
from sensors.run_requests import WORK_TAG

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(540),
    pytest.mark.skipif(not Path("/proc").exists(), reason="finds the processes in /proc"),
]
ROOT = Path(__file__).parents[2]
DIGITS = 1797
RUNNING = """
query Running($tag: String!) {
  runsOrError(filter: {statuses: [STARTED], tags: [{key: $tag, value: "routines/digits_features"}]}) {
    ... on Runs { results { runId } } } }
"""


def start(home: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dataset_assets.demo"]
    environment = {**os.environ, "LAKEFEED_DEMO_HOME": str(home)}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def left_running(home: Path) -> list[int]:
    """The processes that work on this home's Dagster instance."""
    mark = f"DAGSTER_HOME={home / 'dagster'}\0".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in entry.read_bytes() + b"\0":
                found.append(int(entry.parent.name))
        except OSError:  # ended meanwhile, or somebody else's
            continue
    return found


def url_of(demo: subprocess.Popen[str]) -> str:
    assert demo.stdout is not None
    return next(found[1] for line in demo.stdout if (found := re.search(r"(http://\S+)", line)))


def wait_for_the_routine(demo: subprocess.Popen[str]) -> None:
    server = Server(url_of(demo), Path(), demo.pid)
    deadline = time.monotonic() + 180
    while not server.query(RUNNING, tag=WORK_TAG)["runsOrError"]["results"]:
        assert time.monotonic() < deadline, "the routine was not started"
        time.sleep(0.05)


def ids(name: str) -> list[int]:
    return sorted(Dataset(name).select(["id"]).to_arrow()["id"].to_pylist())


def finish(home: Path) -> str:
    demo = start(home)
    output, _ = demo.communicate(timeout=400)
    assert demo.returncode == 0, output
    assert ids("digits") == ids("digits_features") == list(range(DIGITS))
    return output


def test_a_killed_demo_leaves_nothing_running(home: Path) -> None:
    demo = start(home)
    url_of(demo)
    assert len(left_running(home)) > 3
    demo.kill()
    demo.communicate()
    deadline = time.monotonic() + 20
    while left_running(home):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_killed_in_the_routine_then_finished_then_run_again(home: Path) -> None:
    killed = start(home)
    wait_for_the_routine(killed)
    # Again until nothing is left: one of them may start another between the look and the kill.
    while processes := left_running(home):
        for process in [killed.pid, *processes]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
    killed.communicate()
    assert "accuracy" in finish(home)
    assert left_running(home) == []
    versions = [version.snapshot_id for version in Dataset("digits_features").list_versions()]
    finish(home)
    assert [version.snapshot_id for version in Dataset("digits_features").list_versions()] == versions
    assert left_running(home) == []
