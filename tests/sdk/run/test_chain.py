"""A chain of steps gives heavy steps a portion at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakefeed import Dataset
from lakefeed.ops import load_files


@pytest.fixture
def files(tmp_path: Path) -> Dataset:
    paths = [tmp_path / f"{n}.bin" for n in range(20)]
    for n, path in enumerate(paths):
        path.write_bytes(bytes([n]) * 100)
    return Dataset.from_dict({"n": range(20), "f": list(map(str, paths))}).save("files", column_types={"f": "file"})


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many files were loaded at a time."""
    counts: list[int] = []
    real = load_files.load_column

    def counting(column: object, *given: object, **more: object) -> object:
        counts.append(len(column))  # type: ignore[arg-type]
        return real(column, *given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(load_files, "load_column", counting)
    return counts


def test_files_are_loaded_within_the_bytes_allowed(files: Dataset, loaded: list[int]) -> None:
    rows = list(files.load_files("bytes", max_inflight_bytes=350))
    assert [row["f"] for row in rows] == [bytes([n]) * 100 for n in range(20)]
    assert loaded == [3] * 6 + [2]


def test_one_larger_file_passes_alone(files: Dataset, loaded: list[int]) -> None:
    assert files.load_files("bytes", max_inflight_bytes=10).count() == 20
    assert len(list(files.load_files("bytes", max_inflight_bytes=10).batches())) == 20
    assert set(loaded) == {1}


def test_the_first_rows_do_not_wait_for_all(files: Dataset, loaded: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_files, "PORTION_ROWS", 4)
    first = next(iter(files.load_files("bytes").filter(lambda row: row["n"] >= 0)))
    assert (first["n"], loaded) == (0, [4])
