"""What the processes do that tests kill. Light to import: each of them is a process of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lakefeed import Dataset
from lakefeed.ingest import Source, ingest
from lakefeed.routines import Routine, RoutineRun, run_versions


def work_off(routine: Routine, max_rows: int | None = None) -> None:
    """A run of a routine."""
    list(run_versions(routine, max_rows=max_rows))


def take(source: Source) -> None:
    """A run of an ingestion."""
    list(ingest(source))


def same(rows: Dataset) -> Dataset:
    return rows


def both(left: Dataset, right: Dataset) -> Iterator[Any]:
    for rows in (left, right):
        yield from rows.batches(format="arrow")


def note_down(rows: Dataset, run: RoutineRun) -> None:
    """A side effect outside the lake: a line with the token and what came with it."""
    line = json.dumps([run.token, rows.to_arrow()["id"].to_pylist()]) + "\n"
    with (Path(os.environ["LAKEFEED_HOME"]) / "effects.jsonl").open("a") as effects:
        effects.write(line)


def write_turns(name: str, keys: int) -> None:
    """Transactions on a keyed table, each of which gives all keys the same two numbers."""
    from lakefeed import Table

    table = Table(name)
    for turn in range(1, 1000):
        with table.txn() as txn:
            txn.write({"id": list(range(keys)), "a": [turn] * keys})
            txn.write({"id": list(range(keys)), "b": [turn] * keys})
