"""What Dagster works on while it is killed: chains and parts, several sources, a side effect, an ingestion."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from dataset_assets.ingestion import Ingestion
from definitions import build_definitions
from lakefeed import Dataset
from lakefeed.ingest import FolderSource
from lakefeed.routines import Routine, RoutineRun
from tests.sdk.victims import note_down

WORKING = "working"


def at_work() -> None:
    """Says that this process is at work: from now on, who kills it hits no imports."""
    place = Path(os.environ["LAKEFEED_HOME"]) / WORKING
    place.mkdir(exist_ok=True)
    (place / str(os.getpid())).touch()


def slowly(rows: Dataset) -> Iterator[pa.RecordBatch]:
    """The same rows, with time to die before, among and after them."""
    at_work()
    for batch in rows.batches(5, format="arrow"):
        time.sleep(0.05)
        yield batch
    time.sleep(0.05)


def joined(numbers: Dataset, letters: Dataset) -> Iterator[pa.RecordBatch]:
    for rows in (numbers, letters):
        yield from slowly(rows)


def noted(rows: Dataset, run: RoutineRun) -> None:
    at_work()
    note_down(rows, run)


def read(path: Path) -> Dataset:
    at_work()
    return Dataset.from_file(str(path))


# A killed run counts as a failed one; here that is no reason to give up, or to wait.
COPY = Routine("copy", slowly, "numbers", "copies", max_rows_per_run=60, retries=10_000, backoff=0)
BOTH = replace(COPY, name="both", fn=joined, source=("numbers", "letters"), output="together")
NOTE = replace(COPY, name="note", fn=noted, source="copies", output=None)
ROUTINES = [COPY, BOTH, NOTE]
LETTERS = FolderSource("letters", "letters", "landing", "*.csv", read=read, settle=0, max_files=3)

defs = build_definitions([*ROUTINES, Ingestion(LETTERS, arrival_seconds=2)])
