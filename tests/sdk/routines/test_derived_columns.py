"""Routines that derive columns of their own source: each new or changed row gets its value exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lakefeed import Dataset, Table
from lakefeed.errors import InvalidArgumentError
from lakefeed.routines import Routine, cycles, failed_rows, history, pending, retry_failed, run_routine, run_versions

CALLS: list[list[int]] = []


def caption(rows: Dataset) -> Iterator[pa.RecordBatch]:
    for batch in rows.batches(format="arrow"):
        CALLS.append(batch["id"].to_pylist())
        if -1.0 in batch["x"].to_pylist():
            raise ValueError("no caption")
        yield pa.record_batch({"id": batch["id"], "caption": pc.multiply(batch["x"], 2.0)})


@pytest.fixture
def table(home: Path) -> Table:
    CALLS.clear()
    table = Table.create("photos", key_schema={"id": pa.int64()})
    table.write({"id": [1, 2, 3], "x": [1.0, 2.0, 3.0]})
    return table


ROUTINE = Routine("caption", caption, "photos", "photos", columns=["caption"])


def captions(table: Table) -> dict[int, Any]:
    rows = table.scan("id", "caption").to_table().to_pydict()
    return dict(zip(rows["id"], rows["caption"], strict=True))


def test_new_and_changed_rows_get_their_columns_and_the_routine_does_not_read_itself(table: Table) -> None:
    (result,) = run_versions(ROUTINE)
    assert (result.rows_in, result.rows_out, result.to_version, result.output_version) == (3, 3, 2, 3)
    assert pending(ROUTINE) is None
    table.write({"id": [2, 9], "x": [20.0, 90.0]})
    table.delete_keys([3])
    assert captions(table) == {1: 2.0, 2: 4.0, 9: None}
    assert [each.rows_out for each in run_versions(ROUTINE)] == [2]
    assert run_routine(ROUTINE) is None
    assert captions(table) == {1: 2.0, 2: 40.0, 9: 180.0}
    assert CALLS == [[1, 2, 3], [2, 9]]
    assert [each.rows_out for each in history(ROUTINE)] == [3, 2]
    table.compact()
    assert pending(ROUTINE) is None
    assert captions(table) == {1: 2.0, 2: 40.0, 9: 180.0}
    assert cycles([ROUTINE]) == []


def test_a_value_never_lands_on_a_row_that_was_written_since(table: Table) -> None:
    def slow(rows: Dataset) -> Iterator[pa.RecordBatch]:
        if not CALLS:
            table.write({"id": [2, 4], "x": [200.0, 4.0]})
            table.delete_keys([3])
        yield from caption(rows)

    run_routine(Routine("caption", slow, "photos", "photos", columns=("caption",)))
    assert captions(table) == {1: 2.0, 2: None, 4: None}
    assert run_routine(ROUTINE) is not None
    assert captions(table) == {1: 2.0, 2: 400.0, 4: 8.0}


def test_rows_that_fail_have_no_value_until_they_are_retried(table: Table) -> None:
    table.write({"id": [5, 6], "x": [-1.0, 6.0]})
    strict = Routine("caption", caption, "photos", "photos", columns=["caption"], on_error="quarantine")
    assert [(each.rows_out, each.failed) for each in run_versions(strict)] == [(3, 0), (1, 1)]
    assert captions(table) == {1: 2.0, 2: 4.0, 3: 6.0, 5: None, 6: 12.0}
    assert len(failed_rows(strict)) == 1
    CALLS.clear()

    def mended(rows: Dataset) -> Iterator[pa.RecordBatch]:
        for batch in rows.batches(format="arrow"):
            yield pa.record_batch({"id": batch["id"], "caption": pa.array([0.5] * batch.num_rows)})

    retry_failed(Routine("caption", mended, "photos", "photos", columns=["caption"], on_error="quarantine"))
    assert captions(table)[5] == 0.5
    assert failed_rows(strict) == []


def test_declarations_that_cannot_work(table: Table) -> None:
    for wrong in (
        {"source": "photos", "output": "others", "columns": ["caption"]},
        {"source": ("photos", "others"), "output": "photos", "columns": ["caption"]},
        {"source": "photos", "output": "photos", "columns": "caption"},
        {"source": "photos", "output": "photos", "columns": ["caption"], "coalesce": 5},
        {"source": "photos", "output": "photos", "columns": ["caption"], "on_error": "null"},
    ):
        with pytest.raises(InvalidArgumentError, match="columns"):
            Routine("caption", lambda *rows: None, **wrong)  # type: ignore[arg-type]
    Dataset.from_dict({"id": [1], "x": [1.0]}).save("plain")
    with pytest.raises(InvalidArgumentError, match="has no key"):
        run_routine(Routine("caption", caption, "plain", "plain", columns=["caption"]))
