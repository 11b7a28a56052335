"""A chain of steps begins ahead with what is waited for, a portion at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.ops import load_files
from lakefeed.run.step_chain import peel, run_chain, run_whole


@pytest.fixture
def files(tmp_path: Path) -> Dataset:
    paths = [tmp_path / f"{n}.bin" for n in range(20)]
    for n, path in enumerate(paths):
        path.write_bytes(bytes([n]) * 100)
    return Dataset.from_dict({"n": range(20), "f": list(map(str, paths))}).save("files", column_types={"f": "file"})


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many files were begun with together."""
    counts: list[int] = []
    real = load_files.LoadAhead.start

    def counting(ahead: load_files.LoadAhead, batch: pa.RecordBatch, offset: int = 0) -> Callable[[], pa.RecordBatch]:
        counts.append(batch.num_rows)
        return real(ahead, batch, offset)

    monkeypatch.setattr(load_files.LoadAhead, "start", counting)
    return counts


def contents(dataset: Dataset) -> list[bytes]:
    return [row["f"] for row in dataset]


def test_portions_take_a_part_of_the_bytes_allowed(files: Dataset, begun: list[int]) -> None:
    assert contents(files.load_files("bytes", max_inflight_bytes=2_500)) == [bytes([n]) * 100 for n in range(20)]
    assert begun == [3] * 6 + [2]


def test_one_larger_file_passes_alone(files: Dataset, begun: list[int]) -> None:
    assert contents(files.load_files("bytes", max_inflight_bytes=10)) == [bytes([n]) * 100 for n in range(20)]
    assert set(begun) == {1}


def test_the_first_rows_do_not_wait_for_all(files: Dataset, begun: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_files, "PORTION_ROWS", 4)
    monkeypatch.setattr(load_files, "FIRST_ROWS", 4)
    first = next(iter(files.load_files("bytes").filter(lambda row: row["n"] >= 0)))
    assert first["n"] == 0
    assert begun == [4, 4]


def test_files_of_the_batches_to_come_are_begun_with(files: Dataset, begun: list[int]) -> None:
    steps, _ = peel(files.load_files("bytes")._plan)
    batches = run_whole(steps, iter(files.to_arrow().to_batches(max_chunksize=4)))
    first = next(batches).rows
    assert first["f"].to_pylist() == [bytes([n]) * 100 for n in range(4)]
    assert begun == [4] * 5  # as many as fit into the first portion of a stream
    assert [batch.rows.num_rows for batch in batches] == [4] * 4


def test_a_chain_that_is_closed_closes_what_it_draws_from(files: Dataset) -> None:
    ended = []

    def drawn() -> Generator[pa.RecordBatch]:
        try:
            yield from files.to_arrow().to_batches(max_chunksize=2)
        finally:
            ended.append(True)

    steps, _ = peel(files.load_files("bytes")._plan)
    for run in (run_chain, run_whole):
        batches = run(steps, drawn())
        next(batches)
        batches.close()
    assert ended == [True, True]
