"""What sinks where, how deep plans may be, and what is really opened and decoded."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakefeed import Dataset
from lakefeed.formats import parquet_format
from lakefeed.formats.parquet_format import ParquetFile
from lakefeed.formats.row_filter import RowFilter
from lakefeed.optimize import optimize
from lakefeed.plan import fingerprint
from lakefeed.plan.walk import nodes

FILES, ROWS_A_FILE, ROWS_A_GROUP = 6, 100, 10
DEEP = 2_000


def table(start: int, rows: int = ROWS_A_FILE) -> pa.Table:
    numbers = range(start, start + rows)
    return pa.table({"x": list(numbers), "y": [str(n) for n in numbers], "blob": [b"z" * 50] * rows})


@pytest.fixture(scope="module")
def many(shared_home: Callable[..., AbstractContextManager[Path]]) -> Dataset:
    """A dataset of six versions, one file each, ten row groups a file."""
    with shared_home(LAKEFEED__WRITE__ROW_GROUP_ROWS=str(ROWS_A_GROUP), LAKEFEED__READ__THREADS="1"):
        for number in range(FILES):
            rows = Dataset.from_arrow(table(number * ROWS_A_FILE))
            rows.save("many", column_types=None, if_exists="append")
        return Dataset("many", version=FILES)


class Reads:
    """What was opened and read."""

    def __init__(self) -> None:
        self.footers: set[str] = set()
        self.groups: list[tuple[str, int]] = []
        self.columns: set[tuple[str, ...]] = set()
        self.rows = 0


@pytest.fixture
def reads(many: Dataset, monkeypatch: pytest.MonkeyPatch) -> Reads:
    parquet_format._footers.clear()  # of the tests before
    seen, read, footer = Reads(), ParquetFile.read, ParquetFile._read_footer

    def counted(
        self: ParquetFile,
        group: int,
        columns: Any,
        start: int,
        stop: int | None,
        where: RowFilter | None = None,
        **options: Any,
    ) -> Iterator[pa.RecordBatch]:
        beside = chain.from_iterable(where.extra_columns.values() if where is not None else ())
        seen.groups.append((self.url, group))
        seen.columns.add((*columns, *beside))
        for batch in read(self, group, columns, start, stop, where, **options):
            seen.rows += batch.num_rows
            yield batch

    def opened(self: ParquetFile) -> pq.FileMetaData:
        seen.footers.add(self.url)
        return footer(self)

    monkeypatch.setattr("lakefeed.formats.parquet_format._footers", {})
    monkeypatch.setattr(ParquetFile, "read", counted)
    monkeypatch.setattr(ParquetFile, "_read_footer", opened)
    return seen


def values(dataset: Dataset) -> list[int]:
    return dataset.to_arrow()["x"].to_pylist()


def test_head_opens_one_file_and_decodes_its_rows_only(many: Dataset, reads: Reads) -> None:
    assert values(many.head(5)) == [0, 1, 2, 3, 4]
    assert (len(reads.footers), len(reads.groups), reads.rows) == (1, 1, 5)


def test_head_sinks_below_maps_selects_and_loads(many: Dataset, reads: Reads) -> None:
    mapped = many.map(lambda row: row, schema=many.schema).select(["y", "x"]).load_files().head(3)
    assert values(mapped) == [0, 1, 2]
    assert (len(reads.footers), reads.rows) == (1, 3)


def test_slice_decodes_only_the_groups_that_it_touches(many: Dataset, reads: Reads) -> None:
    assert values(many.slice(295, 312)) == list(range(295, 312))
    assert len(reads.footers) == 2
    assert len(reads.groups) == 3
    assert reads.rows <= 17


def test_rows_that_are_skipped_are_not_decoded(many: Dataset, reads: Reads) -> None:
    renamed = many.rename({"y": "z"}).map(identity, schema=many.rename({"y": "z"}).schema)
    assert values(renamed.skip(585)) == list(range(585, 600))
    assert (len(reads.footers), len(reads.groups), reads.rows) == (1, 2, 15)


def test_below_a_filter_every_row_is_looked_at(many: Dataset, reads: Reads) -> None:
    assert values(many.filter("x % 2 == 0").skip(295)) == [590, 592, 594, 596, 598]
    assert len(reads.groups) == FILES * ROWS_A_FILE // ROWS_A_GROUP


def test_slices_of_slices_are_one_range(many: Dataset, reads: Reads) -> None:
    assert values(many.slice(100).slice(10, 400).slice(3, 8)) == [113, 114, 115, 116, 117]
    assert (len(reads.footers), len(reads.groups)) == (1, 1)


def test_a_selective_filter_skips_files_and_row_groups(many: Dataset, reads: Reads) -> None:
    assert values(many.filter("x >= 234 and x < 236")) == [234, 235]
    assert (len(reads.footers), len(reads.groups)) == (1, 1)


def test_a_filter_skips_through_other_operations(many: Dataset, reads: Reads) -> None:
    split = many.select(["x", "y"]).train_test_split(by="x")
    found = sorted(values(split["train"].filter("x == 234")) + values(split["test"].filter("x == 234")))
    assert found == [234]
    assert len(reads.footers) == 1
    assert len({group for _, group in reads.groups}) == 1


def test_a_filter_nothing_can_match_reads_nothing(many: Dataset, reads: Reads) -> None:
    assert many.filter("x > 10000").to_arrow().num_rows == 0
    assert (reads.groups, reads.footers) == ([], set())


def test_only_needed_columns_are_read(many: Dataset, reads: Reads) -> None:
    many.filter("x < 5").select(["y"]).to_arrow()
    assert reads.columns == {("y", "x")}


def test_what_statistics_tell_of_all_rows_is_not_tested(many: Dataset, reads: Reads) -> None:
    assert many.filter("x < 10 and y != null").select(["y"]).to_arrow().num_rows == 10
    assert reads.columns == {("y",)}


def test_a_filter_after_a_slice_counts_places_before_it(many: Dataset, reads: Reads) -> None:
    assert values(many.filter("x >= 50").slice(10, 200).filter("x % 100 == 0")) == [100, 200]


def test_counting_reads_one_narrow_column(many: Dataset, reads: Reads) -> None:
    assert many.filter("x % 2 == 0").count() == 300
    assert reads.columns == {("x",)}
    assert len(many) == len(many.slice(10, 20)) + 590 == 600


def test_batches_stop_reading_when_the_caller_stops(many: Dataset, reads: Reads) -> None:
    batches = many.batches(format="arrow")
    next(batches)
    batches.close()
    assert len(reads.groups) <= 4


def test_explain_shows_what_is_read(many: Dataset) -> None:
    lines = many.filter("x >= 234 and x < 236").select(["y"]).explain().splitlines()
    assert [line.strip().split(" ")[0] for line in lines] == ["Project", "Filter", "Scan"]
    assert f"many v6 (snapshot {many._reference.resolved().snapshot_id}, 1 of 6 files, 100 of 600 rows)" in lines[2]
    assert "columns=[x, y] predicate=" in lines[2]
    assert "1 of 6 files, 5 of 600 rows" in many.head(5).explain()


def deep(kind: str) -> Dataset:
    dataset = Dataset.from_dict({"x": list(range(40)), "y": [0.5] * 40})
    for number in range(DEEP):
        match kind if kind != "mixed" else ("map", "filter", "slice", "select")[number % 4]:
            case "map":
                dataset = dataset.map(identity, schema=dataset.schema)
            case "filter":
                dataset = dataset.filter(f"x != {number % 3}")
            case "slice":
                dataset = dataset.slice(0, 35)
            case "select":
                dataset = dataset.select(["x", "y"])
            case "rows":
                dataset = dataset.filter(always)
    return dataset


def expected(kind: str) -> list[int]:
    rows = list(range(40))
    for number in range(DEEP):
        step = kind if kind != "mixed" else ("map", "filter", "slice", "select")[number % 4]
        rows = [x for x in rows if x != number % 3] if step == "filter" else rows[:35] if step == "slice" else rows
    return rows


def identity(row: dict[str, Any]) -> dict[str, Any]:
    return row


def always(row: dict[str, Any]) -> bool:
    return True


@pytest.mark.parametrize(
    "kind",
    ["rows", *(pytest.param(each, marks=pytest.mark.live) for each in ("map", "filter", "slice", "select", "mixed"))],
)
def test_thousands_of_nested_nodes(kind: str) -> None:
    dataset = deep(kind)
    copy = pickle.loads(pickle.dumps(dataset))
    rows = dataset.to_arrow()["x"].to_pylist()
    assert rows == copy.to_arrow()["x"].to_pylist()
    assert rows == expected(kind)
    assert fingerprint(dataset._plan) == fingerprint(copy._plan)
    assert dataset.explain().count("\n") < DEEP + 1
    assert dataset.count() == len(rows)


def test_a_range_cuts_before_what_filters_left_behind(many: Dataset) -> None:
    images = pa.table({"x": [1, 2, 3], "img": ["a.png", "b.png", "c.png"]})
    typed = Dataset.from_arrow(images).with_column_types({"img": "image"})
    kinds = [type(node).__name__ for node in nodes(optimize(typed.filter("x > 1").head(1)._plan))]
    assert kinds == ["FileColumns", "Slice", "Filter", "Scan"]


def test_an_optimized_plan_is_as_optimized_as_it_gets(many: Dataset) -> None:
    plan = many.filter("x > 3").select(["x", "y"]).filter("y != '9'").head(7)._plan
    once = optimize(plan)
    assert json.dumps([node.describe() for node in nodes(optimize(once))]) == json.dumps(
        [node.describe() for node in nodes(once)]
    )
