"""Filters on a field of a struct column read that field alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakefeed import Dataset


def image(n: int) -> dict[str, Any]:
    return {"width": n, "tags": {"a": n * 2, "b": "x"}, "bytes": b"." * 99}


TABLE = pa.table(
    {
        "id": range(50),
        "image": [
            {"width": n, "tags": {"a": n * 2, "b": "x"}, "bytes": b"." * 99} if n % 3 else None for n in range(50)
        ],
    }
)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The columns and fields that files are asked for."""
    asked: list[str] = []
    real = pq.ParquetFile.read_row_group

    def noting(self: pq.ParquetFile, group: int, columns: Sequence[str] | None, **more: Any) -> Any:
        asked.extend(columns or ["everything"])
        return real(self, group, columns, **more)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noting)
    return asked


@pytest.fixture
def photos() -> Dataset:
    return Dataset.from_arrow(TABLE).save("photos", column_types=None)


def test_a_filter_reads_its_leaf_only(photos: Dataset, read: list[str]) -> None:
    assert len(photos.filter("image.width >= 40").select(["id"]).to_arrow()) == 7
    assert sorted(read) == ["id", "image.width"]


def test_several_filters_read_what_each_looks_at(photos: Dataset, read: list[str]) -> None:
    found = photos.filter("image.width >= 40").shuffle(seed=1).filter("image.tags.a < 90").select(["id"])
    assert sorted(found.to_arrow()["id"].to_pylist()) == [40, 41, 43, 44]
    assert set(read) == {"id", "image.width", "image.tags.a"}


def test_a_count_reads_the_leaf_only(photos: Dataset, read: list[str]) -> None:
    assert photos.filter("image.width >= 40").count() == 7
    assert read == ["image.width"]


def test_a_column_that_is_wanted_is_read_whole(photos: Dataset, read: list[str]) -> None:
    row = next(iter(photos.filter("image.width == 49")))
    assert row["image"] == {"width": 49, "tags": {"a": 98, "b": "x"}, "bytes": b"." * 99}
    assert "image.width" not in read


def test_a_test_for_null_reads_the_column(photos: Dataset) -> None:
    assert photos.filter("image is null").select(["id"]).count() == 17


def test_explain_names_the_fields(photos: Dataset) -> None:
    assert "fields=[image.width]" in photos.filter("image.width >= 40").select(["id"]).explain()
