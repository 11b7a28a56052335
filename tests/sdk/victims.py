"""What the processes do that tests kill. Light to import: each of them is a process of its own."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from lakefeed import Dataset
from lakefeed.errors import FormatError
from lakefeed.ingest import Source, ingest
from lakefeed.routines import Routine, RoutineRun, retry_failed, run_versions


def work_off(routine: Routine, max_rows: int | None = None) -> None:
    """A run of a routine."""
    list(run_versions(routine, max_rows=max_rows))


def retry(routine: Routine) -> None:
    """A retry of the rows that failed."""
    retry_failed(routine)


def work_and_retry(routine: Routine) -> None:
    """A run of a routine between two retries."""
    retry(routine)
    work_off(routine)
    retry(routine)


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


FAILING = pa.schema({"id": pa.int64(), "size": pa.int64()})


def compact_turns(name: str, keys: int) -> None:
    """Transactions on a keyed table, each of which gives a third of the keys the same two numbers, and compactions."""
    from lakefeed import Table

    table = Table(name)
    for turn in range(1, 1000):
        chosen = list(range(turn % 3, keys, 3))
        with table.txn() as txn:
            txn.write({"id": chosen, "a": [turn] * len(chosen)})
            txn.write({"id": chosen, "b": [turn] * len(chosen)})
        if turn % 4 == 0:
            table.compact()


def failing(row: dict[str, Any]) -> dict[str, Any]:
    """Raises for every tenth row, and by chance for others: no two calls agree on the rows that fail."""
    if row["id"] % 10 == 3 or random.random() < 0.1:
        raise ValueError(f"row {row['id']} fails")
    return {"id": row["id"], "size": 1}


def failing_rows(rows: Dataset) -> Dataset:
    return rows.map(failing, schema=FAILING)


def failing_batches(rows: Dataset) -> Iterator[Any]:
    for batch in rows.batches(format="arrow"):
        yield pa.RecordBatch.from_pylist([failing(row) for row in batch.to_pylist()], schema=FAILING)


def mended_rows(rows: Dataset) -> Dataset:
    return rows.map(lambda row: {"id": row["id"], "size": 1}, schema=FAILING)


def mended_by_chance(row: dict[str, Any]) -> dict[str, Any]:
    if random.random() < 0.8:
        raise ValueError(f"row {row['id']} fails again")
    return {"id": row["id"], "size": 1}


def failing_by_chance(row: dict[str, Any]) -> dict[str, Any]:
    if random.random() < 0.1:
        raise ValueError(f"row {row['id']} fails this time")
    return {"id": row["id"], "size": 1}


def rows_failing_by_chance(rows: Dataset) -> Dataset:
    return rows.map(failing_by_chance, schema=FAILING)


def half_mended_rows(rows: Dataset) -> Dataset:
    return rows.map(mended_by_chance, schema=FAILING)


def decoded(row: dict[str, Any]) -> dict[str, Any]:
    """The size of an image; raises where that is damaged, and for ten rows more."""
    if row["id"] % 200 == 7:
        raise KeyError("no label")
    return {"id": row["id"], "size": row["image"].pil().width}


def decoded_rows(rows: Dataset) -> Dataset:
    return rows.map(decoded, schema=FAILING)


def decoded_or_zero(row: dict[str, Any]) -> dict[str, Any]:
    """The size of an image; 0 where that is damaged."""
    try:
        return {"id": row["id"], "size": row["image"].pil().width}
    except FormatError:
        return {"id": row["id"], "size": 0}


def mended_images(rows: Dataset) -> Dataset:
    return rows.map(decoded_or_zero, schema=FAILING)


def enrich_turns(name: str) -> None:
    """Enrichments of a keyed table, each of which sets two columns to the same value in each row, and compactions."""
    from lakefeed import Table

    table = Table(name)
    for turn in range(1, 1000):
        table.enrich({"a": table["x"] + turn, "b": table["x"] + turn}).apply()
        if turn % 5 == 0:
            table.compact()


def double(rows: Dataset) -> Iterator[Any]:
    """The key of each row, and a column that is derived from it."""
    for batch in rows.batches(format="arrow"):
        yield pa.record_batch({"id": batch["id"], "double": pa.array([2 * value for value in batch["x"].to_pylist()])})


def write_and_search(table_name: str, index_name: str, keys: int) -> None:
    """Writes to a keyed table, each of which is followed by a search in an index of it."""
    from lakefeed import connect
    from lakefeed.expressions import text

    client, draw = connect(), random.Random()
    table, index = client.table(table_name), client.text_index(index_name)
    for _ in range(100):
        chosen = draw.sample(range(keys), 3)
        words = [draw.choice(["red", "green"]) for _ in chosen]
        table.write({"id": chosen, "body": words})
        client.search(keys, text.find(index["body"], "red"))


def refresh_index(index_name: str) -> None:
    """A refresh of an index."""
    from lakefeed import connect

    connect().index(index_name).refresh()
