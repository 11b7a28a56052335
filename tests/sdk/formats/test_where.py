"""A filter is decided first; what it does not look at is decoded only where a row is wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakefeed import Dataset
from lakefeed.expr import can_match, evaluate, parse
from lakefeed.formats.parquet_footer import Footer
from lakefeed.formats.parquet_format import ParquetFile

GROUPS, ROWS = 12, 1000
RANDOM = np.random.default_rng(0)


@cache
def table() -> pa.Table:
    """Twelve row groups; ``label`` is 7 in the third and the eighth, which statistics cannot tell."""
    group = np.repeat(np.arange(GROUPS), ROWS)
    label = RANDOM.choice([0, 1, 99], GROUPS * ROWS)
    label[(group == 2) | (group == 7)] = RANDOM.choice([0, 7, 99], 2 * ROWS)
    words = np.array(["ant", "bee", "cat", None], object)[RANDOM.integers(0, 4, GROUPS * ROWS)]
    words[(group == 5) & (RANDOM.random(GROUPS * ROWS) < 0.01)] = "bear"
    return pa.table(
        {
            "id": np.arange(GROUPS * ROWS),
            "label": label,
            "word": pa.array(words.tolist(), pa.string()),
            "x": np.where(RANDOM.random(GROUPS * ROWS) < 0.1, np.nan, RANDOM.random(GROUPS * ROWS)),
            "blob": [RANDOM.bytes(200) for _ in range(GROUPS * ROWS)],
            "box": [{"w": int(n % 50), "h": [float(n)]} if n % 5 else None for n in range(GROUPS * ROWS)],
        }
    )


@pytest.fixture
def rows(home: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", str(ROWS))
    monkeypatch.setenv("LAKEFEED__READ__THREADS", "1")
    Dataset.from_arrow(table()).save("rows", column_types=None)
    return Dataset("rows", version=1)


@pytest.fixture(scope="module")
def unchanged(shared_home: Callable[..., AbstractContextManager[Path]]) -> Dataset:
    """The same rows, for tests that neither write nor count what is read."""
    with shared_home(LAKEFEED__WRITE__ROW_GROUP_ROWS=str(ROWS), LAKEFEED__READ__THREADS="1"):
        return Dataset.from_arrow(table()).save("rows", column_types=None)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """The row groups and columns that Arrow is asked to decode."""
    seen: list[tuple[int, str]] = []
    real = pq.ParquetFile.read_row_group

    def noting(self: pq.ParquetFile, group: int, columns: Sequence[str], **more: Any) -> Any:
        seen.extend((group, column) for column in columns)
        return real(self, group, columns=columns, **more)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noting)
    return seen


def test_row_groups_without_a_hit_are_spared_the_other_columns(rows: Dataset, decoded: list[tuple[int, str]]) -> None:
    found = rows.filter("label = 7").select(["id", "blob"]).to_arrow()
    assert found["id"].to_pylist() == table().filter(evaluated("label = 7"))["id"].to_pylist()
    assert sorted(group for group, column in decoded if column == "label") == list(range(GROUPS))
    assert {group for group, column in decoded if column == "blob"} == {2, 7}
    assert len(decoded) == GROUPS + 2 * 2


def test_little_is_decoded_at_once(rows: Dataset, decoded: list[tuple[int, str]]) -> None:
    # Some kilobytes are not worth a second step.
    assert rows.filter("label = 7").select(["id"]).count() == evaluated("label = 7").true_count
    assert len([group for group, column in decoded if column == "id"]) in (0, GROUPS)
    decoded.clear()
    rows.filter("label = 7").select(["id"]).to_arrow()
    assert sorted(decoded) == [(group, column) for group in range(GROUPS) for column in ("id", "label")]


def test_footers_are_read_once(rows: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = ParquetFile._read_footer
    monkeypatch.setattr("lakefeed.formats.parquet_format._footers", {})
    monkeypatch.setattr(ParquetFile, "_read_footer", lambda self: (read.append(self.url), real(self))[1])
    for text in ("id < 10", "label = 7", "word = 'bear'"):
        Dataset("rows").filter(text).to_arrow()
    assert len(read) == 1


def evaluated(text: str) -> Any:
    batch = table().combine_chunks().to_batches()[0]
    return evaluate(parse(text, table().schema), batch)


def plain(found: pa.Table) -> list[str]:
    """The rows in a form in which NaN is NaN."""
    return [repr(row) for row in found.drop_columns("blob").to_pylist()]


CONDITIONS = [
    "label = 7",
    "label < 100",
    "not (label = 7)",
    "id >= 2500 and id < 7100",
    "word = 'bear'",
    "word is null",
    "word is not null and word > 'bee'",
    "not (word = 'ant')",
    "word in ('ant', 'bear') or label = 7",
    "word like 'b%' and label = 99",
    "x != x",
    "x > 0.99",
    "not (x <= 0.99)",
    "box.w = 3",
    "box.w > 48 and word = 'cat'",
    "box is null",
    "box.h[0] = 77",
    "id % 100 = 3",
    "id < 0",
]


@pytest.mark.parametrize("text", CONDITIONS)
def test_the_rows_are_those_of_the_filter(unchanged: Dataset, text: str) -> None:
    expected = table().filter(evaluated(text))
    assert plain(unchanged.filter(text).to_arrow()) == plain(expected)
    assert unchanged.filter(text).select(["blob", "id"]).to_arrow().equals(expected.select(["blob", "id"]))
    assert unchanged.filter(text).count() == len(expected)
    assert plain(unchanged.filter(text).slice(3, 9).to_arrow()) == plain(expected.slice(3, 6))
    assert unchanged.slice(1500, 4321).filter(text).to_arrow()["id"].to_pylist() == [
        place for place in expected["id"].to_pylist() if 1500 <= place < 4321
    ]


def test_renamed_and_new_columns(rows: Dataset) -> None:
    newest = Dataset("rows")
    newest.rename_column("word", "term")
    newest.add_column("later", pa.int64())
    expected = table().filter(evaluated("word = 'bear'"))["id"].to_pylist()
    assert Dataset("rows").filter("term = 'bear'").to_arrow()["id"].to_pylist() == expected
    assert Dataset("rows").filter("later is null and term = 'bear'").to_arrow()["id"].to_pylist() == expected
    assert Dataset("rows").filter("later = 1").count() == 0


@pytest.mark.parametrize("text", CONDITIONS)
def test_pruning_in_blocks_finds_what_asking_each_row_group_finds(tmp_path: Path, text: str) -> None:
    pq.write_table(table().sort_by("word"), tmp_path / "t.parquet", row_group_size=100)
    footer, predicate = Footer(pq.read_metadata(tmp_path / "t.parquet")), parse(text, table().schema)
    paths = [("id",), ("label",), ("word",), ("x",), ("box", "w")]
    bounds = {path: footer.bounds(path) for path in paths}
    expected = [
        group
        for group in range(footer.metadata.num_row_groups)
        if can_match(predicate, {path: of[group] for path, of in bounds.items() if of is not None})
    ]
    assert [part.key for part in footer.groups(predicate)] == expected


def test_what_a_filter_leaves_of_a_version_is_found_once(rows: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    real = Footer.groups
    monkeypatch.setattr(Footer, "groups", lambda self, predicate: asked.append(predicate) or real(self, predicate))
    few = rows.filter("id < 1500")
    assert few.head(1).collect().num_rows == 1  # which does not look at all of them
    for _ in range(3):
        assert few.count() == len(few.collect()) == 1500
    assert rows.filter("id < 2500").count() == 2500
    assert len(asked) <= 3
