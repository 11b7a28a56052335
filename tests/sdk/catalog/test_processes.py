"""Real processes at once: nothing lost, nothing twice, nothing half."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa
import pytest

from lakefeed.catalog import Lake, append, create, fence_value, list_versions
from tests.sdk.processes import Program, finish_all

SCHEMA = pa.schema([("x", pa.int64())])

HEAD = """
import sys
import pyarrow as pa
from lakefeed.catalog import Fence, Lake, append, create, fence_value
from lakefeed.errors import CommitError, DatasetExistsError

SCHEMA = pa.schema([("x", pa.int64())])
lake = Lake()
me = int(sys.argv[1])

def rows(*values):
    return [pa.record_batch({"x": pa.array(values, pa.int64())})]

def say(*words):
    print(*words, flush=True)
"""

APPENDER = """
for step in range(int(sys.argv[2])):
    append(lake, "t", rows(me * 1000 + step), schema=SCHEMA)
    say("ok", me * 1000 + step)
"""

KEYED = """
for step in range(int(sys.argv[2])):
    say(append(lake, "t", rows(step), schema=SCHEMA, idempotency_key=f"step-{step}").version)
"""

CREATOR = """
try:
    create(lake, "t", SCHEMA, rows(me))
    say("won", me)
except DatasetExistsError:
    say("lost", me)
"""

RUNNER = """
# Copies 0..N into `t`, some at a time; the position is the fence, and whoever loses reads it again.
end = int(sys.argv[2])
while True:
    position = fence_value(lake.table("t"), "copy")
    start = int(position or 0)
    if start >= end:
        break
    stop = min(start + 3, end)
    try:
        append(lake, "t", rows(*range(start, stop)), schema=SCHEMA, fence=Fence("copy", position, str(stop)))
    except CommitError:
        continue
"""


def start(code: str, *args: object) -> Program:
    return Program(HEAD + code, *args)


def values(lake: Lake) -> list[int]:
    return sorted(lake.table("t").scan().to_arrow()["x"].to_pylist())


def assert_whole(lake: Lake) -> None:
    """The totals of every version fit its rows, and versions have no gap."""
    versions = list_versions(lake.table("t"))
    assert [version.version for version in versions] == list(range(len(versions), 0, -1))
    total = 0
    for version in reversed(versions):
        total += version.added_records
        assert version.total_records == total
    assert len(values(lake)) == total


@pytest.mark.live
def test_appends_at_once_all_land(lake: Lake, home: Path) -> None:
    create(lake, "t", SCHEMA, [])
    finish_all([start(APPENDER, me, 10) for me in range(4)])
    assert values(lake) == [me * 1000 + step for me in range(4) for step in range(10)]
    assert_whole(lake)
    assert len(list(home.rglob("*.parquet"))) == 40


@pytest.mark.live
def test_one_key_at_once_writes_once(lake: Lake, home: Path) -> None:
    create(lake, "t", SCHEMA, [])
    said = finish_all([start(KEYED, me, 8) for me in range(3)])
    assert values(lake) == list(range(8))
    assert len(set(said)) == 1
    assert len(list(home.rglob("*.parquet"))) == 8


@pytest.mark.live
def test_one_creator_wins(lake: Lake, home: Path) -> None:
    said = "".join(finish_all([start(CREATOR, me) for me in range(4)])).split("\n")
    (winner,) = [line.split()[1] for line in said if line.startswith("won")]
    assert values(lake) == [int(winner)]
    assert len(list(home.rglob("*.parquet"))) == 1


@pytest.mark.live
def test_racing_fenced_runners_do_it_exactly_once(lake: Lake, home: Path) -> None:
    create(lake, "t", SCHEMA, [])
    finish_all([start(RUNNER, me, 60) for me in range(3)])
    assert values(lake) == list(range(60))
    assert fence_value(lake.table("t"), "copy") == "60"
    assert len(list(home.rglob("*.parquet"))) == 20


@pytest.mark.live
@pytest.mark.parametrize("after", [0.0, 0.013, 0.031, 0.07])
def test_killed_appender_leaves_the_table_whole(lake: Lake, after: float) -> None:
    create(lake, "t", SCHEMA, [])
    appender = start(APPENDER, 0, 10_000)
    appender.stdout.readline()
    time.sleep(after)
    appender.kill()
    acknowledged = 1 + sum(line.startswith("ok") for line in appender.finish().split("\n"))
    landed = values(lake)
    assert landed == list(range(len(landed)))
    assert acknowledged <= len(landed) <= acknowledged + 1
    assert_whole(lake)
    append(lake, "t", [pa.record_batch({"x": [77]})], schema=SCHEMA)
    assert values(lake) == sorted([*landed, 77])


def test_killed_runners_repeat_nothing(lake: Lake) -> None:
    create(lake, "t", SCHEMA, [])
    for after in (0.01, 0.03, 0.05):
        before = fence_value(lake.table("t"), "copy")
        runner = start(RUNNER, 0, 10_000)
        while fence_value(lake.table("t"), "copy") == before:
            time.sleep(0.01)
        time.sleep(after)
        runner.kill()
        runner.finish()
        landed = values(lake)
        assert landed == list(range(int(fence_value(lake.table("t"), "copy") or 0)))
    assert_whole(lake)
