from __future__ import annotations

import gc
from pathlib import Path

import pyarrow as pa
import pytest

from lakefeed.run import spill as module
from lakefeed.run.spill import spill

SCHEMA = pa.schema({"x": pa.int64(), "kind": pa.dictionary(pa.int8(), pa.string())})


def batch(rows: list[int], kinds: list[str]) -> pa.RecordBatch:
    return pa.record_batch({"x": rows, "kind": pa.array(kinds).dictionary_encode().cast(SCHEMA.field(1).type)}, SCHEMA)


def descriptors() -> set[str]:
    gc.collect()  # what tests before this one left
    return {place.name for place in Path("/proc/self/fd").iterdir()}


def test_rows_come_back_in_order_and_nothing_is_left(tmp_path: Path) -> None:
    before = descriptors()
    table = spill(iter([batch([1, 2], ["a", "b"]), batch([3], ["c"])]), SCHEMA, tmp_path / "spill").table
    assert table.to_pydict() == {"x": [1, 2, 3], "kind": ["a", "b", "c"]}
    assert list((tmp_path / "spill").iterdir()) == []
    del table
    gc.collect()
    assert descriptors() == before


def test_dictionaries_may_differ_between_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPILL_BYTES", 1)
    table = spill(iter([batch([1], ["a"]), batch([2, 3], ["b", "a"])]), SCHEMA, tmp_path).table
    assert len(table.to_batches()) == 3
    assert table["kind"].to_pylist() == ["a", "b", "a"]


def test_small_batches_are_gathered(tmp_path: Path) -> None:
    table = spill((batch([row], ["a"]) for row in range(50)), SCHEMA, tmp_path).table
    assert len(table.to_batches()) == 1


def test_no_rows(tmp_path: Path) -> None:
    assert spill(iter([]), SCHEMA, tmp_path).table.schema == SCHEMA


def test_the_memory_is_not_resident_python_memory(tmp_path: Path) -> None:
    before = pa.total_allocated_bytes()
    table = spill(
        (pa.record_batch({"x": list(range(1000))}) for _ in range(100)), pa.schema({"x": pa.int64()}), tmp_path
    ).table
    assert pa.total_allocated_bytes() - before < 10_000
    assert table.num_rows == 100_000


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> object:
        yield batch([1], ["a"])
        raise KeyError("broken")

    with pytest.raises(KeyError):
        spill(broken(), SCHEMA, tmp_path)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
