"""Ranks of one machine put rows on disk once, and nothing stays behind, whoever is killed."""

from __future__ import annotations

import gc
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.catalog.lake import Lake
from lakefeed.run.shared_spill import shared_spill
from tests.sdk.processes import Program, finish_all

SCHEMA = pa.schema({"x": pa.int64()})

RANK = """
import json, os, sys, time
from pathlib import Path
from lakefeed import Dataset, World
log, rank = Path(sys.argv[1]), int(sys.argv[2])

def noted(row):
    with log.open("a") as file:
        file.write(f"{row['x']}\\n")
    return row

data = Dataset("rows", version=1).map(noted, schema=Dataset("rows", version=1).schema).filter("x >= 0")
loader = data.shuffle(3).to_torch(batch_size=7, world=World(rank, 3), num_workers=rank)
rows = [row for batch in loader for row in batch["x"].tolist()]
print(json.dumps(rows), flush=True)
while not log.with_name("seen").exists():
    time.sleep(0.01)  # the others may be slower
"""
HELD = """
import sys, time
from pathlib import Path
import pyarrow as pa
from lakefeed.run.shared_spill import shared_spill
rows = shared_spill(lambda: [pa.record_batch({"x": [1, 2]})], pa.schema({"x": pa.int64()}), Path(sys.argv[1]), "k")
print(rows.table.num_rows, flush=True)
time.sleep(60)
"""


def made_of(*rows: int) -> Iterator[pa.RecordBatch]:
    return iter([pa.record_batch({"x": list(rows)}, SCHEMA)])


def never() -> Iterator[pa.RecordBatch]:
    raise AssertionError("the rows are there")


def test_rows_are_made_once_for_all_who_use_them(tmp_path: Path) -> None:
    first = shared_spill(lambda: made_of(1, 2), SCHEMA, tmp_path, "k").table
    second = shared_spill(never, SCHEMA, tmp_path, "k").table
    other = shared_spill(lambda: made_of(3), SCHEMA, tmp_path, "l").table
    assert [first, second, other["x"].to_pylist()] == [second, first, [3]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["k.arrow", "l.arrow"]
    del first
    gc.collect()
    assert (tmp_path / "k.arrow").exists()
    del second, other
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_nothing_and_the_next_makes_them(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        shared_spill(never, SCHEMA, tmp_path, "k")
    assert list(tmp_path.iterdir()) == []
    assert shared_spill(lambda: made_of(1), SCHEMA, tmp_path, "k").table.num_rows == 1


@pytest.mark.live
def test_what_a_killed_process_left_is_not_used_and_goes(tmp_path: Path) -> None:
    killed = Program(HELD, tmp_path)
    assert killed.stdout.readline() == "2\n"
    used = shared_spill(never, SCHEMA, tmp_path, "k").table
    killed.kill()
    killed.finish()
    assert used["x"].to_pylist() == [1, 2]  # still whole
    (tmp_path / "old.arrow").write_bytes(b"x")
    (tmp_path / "half.new").write_bytes(b"x")
    del used
    gc.collect()
    found = shared_spill(lambda: made_of(5), SCHEMA, tmp_path, "m").table
    assert [path.name for path in tmp_path.iterdir()] == ["m.arrow"]
    del found


def test_who_lets_go_of_rows_whose_folder_is_gone_is_silent(tmp_path: Path) -> None:
    used = shared_spill(lambda: made_of(1), SCHEMA, tmp_path / "spill", "k").table
    shutil.rmtree(tmp_path / "spill")
    assert used["x"].to_pylist() == [1]
    del used
    gc.collect()  # an exception in it would be a warning, and fail
    assert list(tmp_path.iterdir()) == []


def test_a_forked_process_leaves_the_rows_to_its_parent(tmp_path: Path) -> None:
    used = shared_spill(lambda: made_of(1), SCHEMA, tmp_path, "k").table
    child = os.fork()
    if not child:
        del used
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / "k.arrow").exists()
    del used
    gc.collect()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.live
def test_ranks_of_a_machine_run_a_plan_once(lake: Lake, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    Dataset.from_dict({"x": list(range(100))}).save("rows")
    log = tmp_path / "log"
    ranks = [Program(RANK, log, rank) for rank in range(3)]
    seen = [json.loads(rank.stdout.readline()) for rank in ranks]
    log.with_name("seen").touch()
    finish_all(ranks)
    assert sorted(row for rows in seen for row in rows) == list(range(100))
    assert sorted(map(int, log.read_text().split())) == list(range(100))
    assert list((lake.settings.cache / "spill").iterdir()) == []
