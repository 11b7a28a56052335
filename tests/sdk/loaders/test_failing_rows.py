"""Rows for which a function or a file fails: their names in errors, and batches without them."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakefeed import Dataset, World
from lakefeed.errors import InvalidArgumentError, LakefeedError, MissingFileError, TransformError
from lakefeed.storage.remote.outages import is_outage

torch = pytest.importorskip("torch")

ROWS = 40
Y = pa.schema({"id": pa.string(), "y": pa.int64()})
BAD = (7, 8, 23)


def strict(row: dict[str, Any]) -> dict[str, Any]:
    if row["x"] in BAD:
        raise KeyError(f"nothing for {row['x']}")
    return {"id": row["id"], "y": row["x"]}


def ill_typed(row: dict[str, Any]) -> dict[str, Any]:
    return {"id": row["id"], "y": "seven" if row["x"] in BAD else row["x"]}


def small(row: dict[str, Any]) -> bool:
    return 1 / (row["x"] - BAD[0]) < 2


def collate(batch: dict[str, Any]) -> dict[str, Any]:
    if BAD[0] in batch["x"].tolist():
        raise ZeroDivisionError("no seven")
    return batch


@pytest.fixture
def rows(tmp_path: Path) -> Dataset:
    """Rows in two files of a lake."""
    for start in (0, 20):
        part = Dataset.from_dict(
            {"id": [f"i{n}" for n in range(start, start + 20)], "x": list(range(start, start + 20))}
        )
        part.append_to("rows") if start else part.save("rows")
    return Dataset("rows")


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """The rows in two files of CSV."""
    for start in (0, 20):
        lines = [f"i{n},{n}" for n in range(start, start + 20)]
        (tmp_path / f"part{start}.csv").write_text("\n".join(["id,x", *lines]))
    return [str(tmp_path / f"part{start}.csv") for start in (0, 20)]


def failure(action: Callable[[], Any]) -> LakefeedError:
    with pytest.raises(LakefeedError) as caught:
        action()
    return caught.value


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failing_row_is_named(rows: Dataset, files: list[str], workers: int) -> None:
    """docs/loader.md: "Any error of a function names the row"."""
    streamed = Dataset.from_file(files)
    plans: dict[str, Dataset] = {
        "in order": rows.map(strict, schema=Y),
        "ill-typed": rows.map(ill_typed, schema=Y),
        "above a shuffle": rows.filter("x >= 7").shuffle(3).filter("x < 9").map(strict, schema=Y),
        "streamed": streamed.map(strict, schema=Y),
        "window": streamed.head(20).shuffle(1, global_=False, window=4).map(strict, schema=Y),
        "below a filter": rows.map(strict, schema=Y).filter("y >= 0"),
        "filter": rows.filter(small),
        "filter of filtered": rows.filter("x % 2 = 1").filter(small),
        "map_batches": rows.filter("x < 9").map_batches(
            lambda batch: 1 / 0 if 7 in batch["x"].to_pylist() else batch, schema=rows.schema
        ),
    }
    numbers = {"filter of filtered": 3, "above a shuffle": None, "map_batches": None}
    for name, plan in plans.items():
        error = failure(lambda plan=plan: list(plan.to_torch(batch_size=4, num_workers=workers)))
        assert isinstance(error, TransformError), name
        row = error.failed_row
        assert row is not None, name
        if name == "map_batches":
            assert "<lambda> failed for rows 0 to 8 from" in str(error)
            continue
        if numbers.get(name, 7) is not None:
            assert row.number == numbers.get(name, 7), name
        assert row.values == (f"id='i{BAD[0]}'" if "shuffle" not in name else row.values), name
        if name not in ("streamed", "window", "above a shuffle"):
            assert row.file is not None, name
        late = workers and name in ("in order", "ill-typed", "above a shuffle", "streamed", "window")
        assert ("In a worker process:\nTraceback" in str(error)) == bool(late), name
        if late and name != "ill-typed":
            assert "in strict" in str(error)
            assert "KeyError" in str(error)
        elif not late:
            assert error.__cause__ is not None, name


def test_a_row_of_a_shuffle_is_named_by_its_position_below(rows: Dataset) -> None:
    for plan in (
        rows.map(strict, schema=Y).shuffle(3),
        rows.shuffle(3).map(strict, schema=Y),
        rows.shuffle(3, global_=False, window=8).map(strict, schema=Y),
        rows.shuffle(3).slice(2, 39).map(strict, schema=Y),
        rows.select(["x", "id"]).mapped().shuffle(4).map(strict, schema=Y),
    ):
        failures: list[LakefeedError] = []
        for rank in range(2):
            for epoch in range(2):
                loader = plan.to_torch(batch_size=3, world=World(rank, 2))
                loader.set_epoch(epoch)
                try:
                    list(loader)
                except TransformError as error:
                    failures.append(error)
        named = [error.failed_row for error in failures]
        assert len(named) >= 2
        assert {row and row.number for row in named} <= set(BAD)
        assert [row and row.values for row in named] == [f"id='i{row and row.number}'" for row in named]


def test_rows_and_files_name_a_failing_row_too(rows: Dataset, files: list[str]) -> None:
    error = failure(lambda: list(rows.map(strict, schema=Y).rows()))
    assert str(error).startswith("map function strict failed for row 7 (id='i7') from ")
    assert str(error).endswith(f"KeyError: {error.__cause__!s}")
    error = failure(lambda: Dataset.from_file(files).filter("x > 20").map(strict, schema=Y).to_arrow())
    assert f"row 2 (id='i23') from {files[1]!r}" in str(error)
    shuffled = Dataset.from_file(files).filter(small).shuffle(1, global_=False, window=8)
    error = failure(lambda: list(shuffled.to_torch(batch_size=4)))
    assert f"row 7 (id='i7') of {files[0]!r}" in str(error)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.live)])
def test_a_failing_collate_fn_names_the_rows_of_its_batch(rows: Dataset, files: list[str], workers: int) -> None:
    for data, named in ((rows, "rows 6, 7, 8"), (Dataset.from_file(files), "rows 6, 7, 8")):
        loader = data.to_torch(batch_size=3, num_workers=workers, collate_fn=collate)
        error = failure(lambda loader=loader: list(loader))
        assert f"collate_fn collate failed for {named} (id=['i6', 'i7', 'i8']): ZeroDivisionError" in str(error)
        assert ("in collate" in str(error)) == bool(workers)
    error = failure(lambda: list(rows.to_torch(batch_size=30, num_workers=workers, collate_fn=collate)))
    assert "rows 0, 1, 2, 3, 4, 5, 6, 7 and 22 more" in str(error)


def test_errors_of_this_package_keep_their_type(tmp_path: Path) -> None:
    photos = missing_files(tmp_path)
    for plan in (
        photos.map(lambda row: {"n": len(row["photo"].bytes())}, schema=pa.schema({"n": pa.int64()})),
        photos.load_files("bytes"),
        photos.load_files("path").filter("id >= 0"),
    ):
        assert "row 1 (id=1, photo=" in str(failure(lambda plan=plan: plan.to_arrow()))
        for workers in (0, 1):
            loader = plan.shuffle(1).to_torch(batch_size=2, num_workers=workers, load_files=False)
            error = failure(lambda loader=loader: list(loader))
            assert isinstance(error, MissingFileError)
            assert "row 1 (id=1, photo=" in str(error) or "row 4 (id=4, photo=" in str(error)


def missing_files(tmp_path: Path) -> Dataset:
    """Six files, of which 1 and 4 are missing."""
    paths = [tmp_path / f"{number}.jpg" for number in range(6)]
    for number, path in enumerate(paths):
        if number not in (1, 4):
            path.write_bytes(bytes([number]) * 9)
    table = Dataset.from_dict({"id": list(range(6)), "photo": [str(path) for path in paths]})
    return table.with_column_types({"photo": "file"})


def good(plan: Dataset) -> list[int]:
    return [row["y"] for row in plan.rows()]


def test_rows_that_fail_are_skipped_and_counted(
    rows: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = [x for x in range(ROWS) if x not in BAD]
    with caplog.at_level(logging.WARNING, "lakefeed"):
        for function in (strict, ill_typed):
            plan = rows.map(function, schema=Y, on_error="skip")
            assert good(plan) == expected
            assert plan.to_arrow()["y"].to_pylist() == expected
            assert plan.count() == len(expected)
            assert plan.head(8).to_arrow()["y"].to_pylist() == expected[:8]
            assert [row["y"] for row in plan.mapped()] == expected  # type: ignore[index]  # a row is a dict
            assert "Skipping" in plan.explain()
            plan.save(f"good_{function.__name__}")
            assert Dataset(f"good_{function.__name__}").count() == len(expected)
    assert "3 rows failed and were skipped; the first: map function strict failed for row 7 (id='i7')" in caplog.text
    photos = missing_files(tmp_path)
    for mode in ("bytes", "path"):
        loaded = photos.load_files(mode, on_error="skip")  # type: ignore[arg-type]  # a mode
        assert loaded.to_arrow()["id"].to_pylist() == [0, 2, 3, 5]
        assert loaded.select(["id"]).to_arrow()["id"].to_pylist() == [0, 2, 3, 5]
        assert [row["id"] for row in loaded.filter("id > 2")] == [3, 5]
        assert loaded.head(2).to_arrow()["id"].to_pylist() == [0, 2]
        loader = loaded.shuffle(1).to_torch(batch_size=2)
        assert sorted(n for batch in loader for n in batch["id"].tolist()) == [0, 2, 3, 5]
        assert loader.metrics.rows_skipped == 2


def test_the_default_has_the_fingerprint_it_had(rows: Dataset) -> None:
    """Checkpoints of older versions belong to the same plan."""
    plain, skipping = rows.map(strict, schema=Y), rows.map(strict, schema=Y, on_error="skip")
    assert type(plain._plan).__name__ == "Map"
    assert set(plain._plan.identity()) == {"fn", "result"}
    state = plain.to_torch(batch_size=4).state_dict()
    with pytest.raises(LakefeedError, match="SkippingMap"):
        skipping.to_torch(batch_size=4).load_state_dict(state)
    for wrong in ("null", "ignore", None, 1):
        with pytest.raises(InvalidArgumentError, match="on_error"):
            rows.map(strict, schema=Y, on_error=wrong)  # type: ignore[arg-type]  # wrong on purpose


def stream() -> Iterator[pa.RecordBatch]:
    for start in range(0, ROWS, 7):
        numbers = range(start, min(start + 7, ROWS))
        yield pa.record_batch({"id": [f"i{n}" for n in numbers], "x": pa.array(numbers)})


PLANS: dict[str, Callable[[Dataset], Dataset]] = {
    "shuffled above": lambda rows: rows.map(strict, schema=Y, on_error="skip").shuffle(5),
    "shuffled below": lambda rows: rows.shuffle(5, global_=False, window=8).map(strict, schema=Y, on_error="skip"),
    "ill-typed": lambda rows: rows.shuffle(5).map(ill_typed, schema=Y, on_error="skip"),
    "in partitions": lambda rows: rows.map(strict, schema=Y, on_error="skip").filter("y >= 0").shuffle(5),
    "streamed": lambda rows: (
        Dataset.from_batches(stream, schema=rows.schema)
        .shuffle(5, global_=False, window=8)
        .map(strict, schema=Y, on_error="skip")
    ),
}


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.live)])
@pytest.mark.parametrize("plan", PLANS)
def test_ranks_stay_in_step_without_the_rows_that_were_skipped(rows: Dataset, plan: str, workers: int) -> None:
    """docs/loader.md: "ranks take the same number of steps and a resume is exact"."""
    prepared = PLANS[plan](rows)
    for ranks, batch_size in ((1, 4), (3, 2), (2, 1)):
        if workers and ranks == 3:
            continue
        found, steps, skipped = [], set(), 0
        for rank in range(ranks):
            loader = prepared.to_torch(batch_size=batch_size, num_workers=workers, world=World(rank, ranks))
            batches = [batch["y"].tolist() for batch in loader]
            found += [value for batch in batches for value in batch]
            steps.add(len(batches))
            skipped += loader.metrics.rows_skipped
            assert (loader.epoch, loader.metrics.batches) == (1, len(batches))
        assert sorted(found) == [x for x in range(ROWS) if x not in BAD]
        assert len(steps) == 1
        if plan != "in partitions":  # there every rank counts what it reads
            assert skipped == len(BAD)


def test_a_batch_without_rows_is_left_out_where_there_is_one_rank(rows: Dataset) -> None:
    """docs/loader.md: "`map` and `load_files` leave such rows out"."""
    plan = rows.map(strict, schema=Y, on_error="skip")
    for options in ({}, {"num_workers": 1}, {"collate_fn": lambda batch: batch["y"]}):
        for batch_size in (1, None):
            loader = plan.to_torch(batch_size=batch_size, **options)
            assert len(list(loader)) == ROWS - len(BAD)
            assert (len(loader), loader.epoch) == (ROWS, 1)
    sizes = [len(batch["y"]) for batch in plan.to_torch(batch_size=1, world=World(0, 2))]
    assert sizes.count(0) == len([x for x in BAD if x % 2 == 0])
    with pytest.raises(InvalidArgumentError, match="batch_size=1"):
        plan.to_torch(world=World(0, 2))
    last = rows.map(lambda row: 1 / 0 if row["x"] > 36 else row, schema=rows.schema, on_error="skip")
    loader = last.to_torch(batch_size=1)
    assert [len(list(loader)) for _ in range(2)] == [37, 37]


@pytest.mark.parametrize("plan", PLANS)
def test_a_resume_skips_the_same_rows(rows: Dataset, plan: str) -> None:
    """docs/loader.md: "ranks take the same number of steps and a resume is exact"."""
    prepared = PLANS[plan](rows)
    whole = [batch["y"].tolist() for batch in prepared.to_torch(batch_size=3)]
    for steps in range(1, len(whole), 3):
        first = prepared.to_torch(batch_size=3)
        assert [batch["y"].tolist() for batch in islice(first, steps)] == whole[:steps]
        state = json.loads(json.dumps(first.state_dict()))
        for workers in (0, 1) if steps == 4 else (0,):
            resumed = prepared.to_torch(batch_size=3, num_workers=workers)
            resumed.load_state_dict(state)
            assert [batch["y"].tolist() for batch in resumed] == whole[steps:]


class RefusedError(OSError):
    """An error of a user's module."""


def test_an_error_of_a_function_is_caught_by_its_own_type(rows: Dataset) -> None:
    class LocalError(Exception):
        """An error that other processes cannot import."""

    class StrictError(Exception):
        def __new__(cls, code: int) -> StrictError:
            return super().__new__(cls, code)

    raised: list[tuple[Callable[[], Exception], type[Exception]]] = [
        (lambda: KeyError("x"), KeyError),
        (lambda: RefusedError(5, "no"), RefusedError),
        (lambda: UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), UnicodeDecodeError),
        (AssertionError, AssertionError),
        (lambda: ImportError("lib", name="lib"), ImportError),
        (lambda: StopIteration(1), TransformError),
        (LocalError, TransformError),
        (lambda: StrictError(1), TransformError),
        (lambda: ExceptionGroup("many", [ValueError()]), TransformError),
    ]
    for make, kind in raised:

        def broken(row: dict[str, Any], make: Callable[[], Exception] = make) -> dict[str, Any]:
            raise make()

        for workers in (None, 0, 2) if kind in (KeyError, RefusedError, UnicodeDecodeError) else (None, 0):
            mapped = rows.map(broken, schema=Y)
            with pytest.raises(kind, match=r"map function .*broken failed for row 0 \(id='i0'\)") as caught:
                list(mapped.rows() if workers is None else mapped.to_torch(batch_size=4, num_workers=workers))
            assert isinstance(caught.value, TransformError)
            caught.value.__cause__ = caught.value.__context__ = None  # Dask, if it was imported, pickles them too
            again = pickle.loads(pickle.dumps(caught.value))
            assert (type(again), str(again)) == (type(caught.value), str(caught.value))


def test_an_error_of_this_package_is_not_its_own_cause(rows: Dataset) -> None:
    def broken(row: dict[str, Any]) -> dict[str, Any]:
        raise MissingFileError("gone")

    with pytest.raises(MissingFileError, match="row 0") as caught:
        rows.map(broken, schema=Y).to_arrow()
    assert caught.value.__cause__ is None
    caught.value.__cause__ = caught.value
    assert not is_outage(caught.value)
