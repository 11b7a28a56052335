"""References, versions, administration, and what bad input says at the call."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import lakefeed.dataset
from lakefeed import AddedRows, Dataset, Fence, Image, Provenance, compute, concatenate, get_dataset, list_datasets
from lakefeed.errors import (
    BudgetExceededError,
    ColumnNotFoundError,
    DatasetExistsError,
    DatasetNotFoundError,
    ExpressionError,
    InvalidArgumentError,
    InvalidNameError,
    SchemaError,
    TagNotFoundError,
    TransformError,
    TypeMismatchError,
    UnsavedDatasetError,
    VersionNotFoundError,
)
from lakefeed.run.to_memory import LargeResultWarning
from tests.sdk.processes import context

X = pa.schema({"x": pa.int64()})


def saved(*values: int, name: str = "t") -> Dataset:
    return Dataset.from_dict({"x": list(values)}, schema=X).save(name)


def add(*values: int | None, name: str = "t", **given: Any) -> Dataset:
    return Dataset.from_dict({"x": list(values)}, schema=X).append_to(name, **given)


def xs(dataset: Dataset) -> list[int]:
    return dataset.to_arrow()["x"].to_pylist()


# ------------------------------------------------------------------ references and versions


def test_a_reference_does_no_io(home: Path) -> None:
    dataset = Dataset("nothing-there", version=7)
    assert dataset.name == "nothing-there"
    assert not home.exists()
    with pytest.raises(DatasetNotFoundError):
        _ = dataset.schema


@pytest.mark.parametrize("name", ["", "T", "1t", "a b", "a/b", "a.b.c.d", ".a", "é", "a" * 64, "t\n", 5, None, b"t"])
def test_bad_names(name: Any) -> None:
    calls = (Dataset, Dataset.exists, get_dataset, Dataset.from_dict({"x": [1]}).save, saved_elsewhere)
    for call in calls:
        with pytest.raises(InvalidNameError, match="invalid dataset name"):
            call(name)
    assert list_datasets() == []


def saved_elsewhere(name: Any) -> object:
    return Dataset.from_dict({"x": [1]}).append_to(name)


@pytest.mark.parametrize("version", [0, -1, 1.0, "1", True])
def test_bad_versions(version: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="positive integer"):
        Dataset("t", version=version)


def test_an_unknown_name_names_the_near_misses() -> None:
    saved(1, name="photos")
    with pytest.raises(DatasetNotFoundError, match="Did you mean 'photos'"):
        Dataset("photo").to_arrow()


def test_an_unknown_version_lists_what_exists() -> None:
    saved(1)
    for value in range(2, 14):
        add(value)
    with pytest.raises(VersionNotFoundError, match=r"'13', '12'.*and 3 more"):
        Dataset("t", version=99).to_arrow()


def test_a_pinned_reference_never_changes_and_an_unpinned_one_follows() -> None:
    pinned, following = saved(1, 2), Dataset("t")
    derived = following.filter("x > 1")
    assert (xs(pinned), xs(following), following.version) == ([1, 2], [1, 2], 1)
    add(3)
    assert (xs(pinned), len(pinned), pinned.version) == ([1, 2], 2, 1)
    assert (xs(following), len(following), following.version) == ([1, 2, 3], 3, 2)
    assert xs(derived) == [2]
    assert xs(following.filter("x > 1")) == [2, 3]


def test_a_deleted_dataset_made_again_is_another_one() -> None:
    pinned = saved(1)
    derived = pinned.select(["x"])
    elsewhere = pickle.loads(pickle.dumps(derived))
    pinned.delete(permanent=True)
    saved(9)
    for gone in (derived, elsewhere):
        with pytest.raises(VersionNotFoundError, match="created again"):
            gone.to_arrow()
    with pytest.raises(VersionNotFoundError, match="deleted at"):
        Dataset("t", version=1).to_arrow()
    assert xs(Dataset("t", version=2)) == [9]


def test_a_write_takes_the_keywords_of_its_signature_only(home: Path) -> None:
    rows = saved(1, 2)
    with pytest.raises(TypeError, match="'fense'; there are 'provenance', 'idempotency_key', 'fence'"):
        rows.save("u", fense=None)  # type: ignore[call-arg]
    for given in ({"description": "d"}, {"if_exists": "append"}):
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            rows.append_to("t", **given)  # type: ignore[arg-type]
    for given in ({"copy_files": True}, {"stats": False}):
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            rows.delete_rows("x = 1", **given)  # type: ignore[arg-type]
    assert rows.list_versions() == Dataset("t").list_versions()
    for write in (Dataset.save, Dataset.append_to, Dataset.restore, compute.save, compute.append_to):
        assert {"provenance", "idempotency_key", "fence"} < set(inspect.signature(write).parameters)


def test_a_pickle_of_an_older_release_is_read(home: Path) -> None:
    """It names a function of the module that the package `lakefeed.dataset` has taken the name of."""
    saved = Dataset.from_dict({"x": [1, 2]}).save("t")
    function, parts = saved.__reduce__()
    assert callable(function)
    assert lakefeed.dataset._restored(*parts).to_arrow() == saved.to_arrow()
    assert pickle.loads(b"clakefeed.dataset\nDataset\n.") is Dataset


def test_versions_say_who_wrote_what() -> None:
    saved(1, 2)
    add(3, provenance=Provenance(run="r1", user="me", code="abc", message="more"))
    newest, first = Dataset("t").list_versions()
    assert (newest.version, newest.added_records, newest.total_records, newest.operation) == (2, 1, 3, "append")
    assert (newest.run, newest.user, newest.code, newest.message) == ("r1", "me", "abc", "more")
    assert (first.version, first.parent_id, newest.parent_id) == (1, None, first.snapshot_id)
    assert first.timestamp_ms <= newest.timestamp_ms


def test_properties_and_metadata() -> None:
    dataset = Dataset.from_dict({"x": [1]}).save("t", description="one")
    assert (dataset.name, dataset.version, dataset.description, dataset.column_types) == ("t", 1, "one", {})
    assert dataset.schema == X
    facts = dataset.metadata
    assert (facts["name"], facts["description"], facts["schema"], facts["column_types"]) == ("t", "one", X, {})
    assert [version.version for version in facts["snapshots"]] == [1]
    (entry,) = facts["snapshots"]
    (version,) = dataset.list_versions()
    assert json.loads(json.dumps(entry)) == entry == pickle.loads(pickle.dumps(entry))
    names = ["snapshot_id", "operation", "added_records", "total_records", "timestamp_ms"]
    assert entry["sequence_number"] == version.version
    assert [entry[name] for name in names] == [getattr(version, name) for name in names]
    assert not hasattr(entry, "sequence")
    assert (facts["tags"], facts["branches"]) == ({}, {})


@pytest.mark.parametrize("what", ["name", "version", "description", "metadata", "list_versions", "delete", "update"])
def test_a_derived_dataset_has_no_name_and_says_what_to_do(what: str) -> None:
    for derived in (Dataset.from_dict({"x": [1]}), saved(1, name=what.replace("_", "-")).filter("x > 0")):
        with pytest.raises(UnsavedDatasetError, match=r"save\(name\)"):
            getattr(derived, what)()
        with pytest.raises(UnsavedDatasetError):
            derived.added_since()


# ------------------------------------------------------------------ added_since


def test_each_added_row_exactly_once_oldest_first() -> None:
    saved(1, 2)
    add(3)
    last = add(4, 5)
    ranges = {
        (None, None): [1, 2, 3, 4, 5],
        (None, 1): [1, 2],
        (1, None): [3, 4, 5],
        (1, 2): [3],
        (2, 3): [4, 5],
        (3, 3): [],
        (1, 1): [],
    }
    for (start, end), expected in ranges.items():
        added = last.added_since(start, end)
        assert (xs(added), len(added)) == (expected, len(expected))


def test_the_pin_is_the_default_upper_bound() -> None:
    pinned = saved(1)
    add(2)
    assert xs(pinned.added_since()) == [1]
    assert xs(pinned.added_since(1, 2)) == [2]


def test_it_is_batches_and_a_dataset() -> None:
    saved(1)
    add(2, 3)
    added = Dataset("t").added_since(1)
    assert isinstance(added, AddedRows)
    assert [type(batch) for batch in added] == [pa.RecordBatch]
    assert (added.from_version, added.version, added.name) == (1, 2, "t")
    assert repr(added) == "AddedRows('t', from_version=1, version=2)"
    assert xs(added.filter("x > 2").map(lambda row: {"x": -row["x"]}, schema=X)) == [-3]
    assert xs(added.shuffle(1).slice(0, 1)) in ([2], [3])


def test_it_keeps_its_range_while_the_dataset_grows() -> None:
    saved(1)
    added = Dataset("t").added_since()
    add(2)
    assert xs(added) == [1]
    assert (added.version, pickle.loads(pickle.dumps(added)).version) == (1, 1)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ((2, 1), InvalidArgumentError),
        ((9, None), VersionNotFoundError),
        ((None, 9), VersionNotFoundError),
        ((0, None), InvalidArgumentError),
        ((None, 0), InvalidArgumentError),
        (("1", None), InvalidArgumentError),
        ((None, "x"), TagNotFoundError),
    ],
)
def test_bad_ranges_say_so_at_the_call(given: tuple[Any, Any], error: type[Exception]) -> None:
    saved(1)
    add(2)
    with pytest.raises(error):
        Dataset("t").added_since(*given)


def test_it_opens_only_what_was_added(monkeypatch: pytest.MonkeyPatch) -> None:
    from lakefeed.formats.parquet_format import ParquetFile

    saved(*range(100))
    for value in range(100, 110):
        add(value)
    opened: list[str] = []
    footer = ParquetFile._read_footer
    monkeypatch.setattr(ParquetFile, "_read_footer", lambda self: (opened.append(self.url), footer(self))[1])
    assert xs(Dataset("t").added_since(9)) == [108, 109]
    assert len(opened) == 2


def test_a_rolled_back_commit_is_not_in_the_range(lake: Any) -> None:
    saved(1)
    second = add(2)
    add(3)
    with lake.table("t").manage_snapshots() as snapshots:
        snapshots.rollback_to_snapshot(second._reference.resolved().snapshot_id)
    add(4)
    assert [version.version for version in Dataset("t").list_versions()] == [4, 2, 1]
    assert xs(Dataset("t").added_since(1)) == xs(Dataset("t").slice(1)) == [2, 4]
    with pytest.raises(VersionNotFoundError):
        Dataset("t").added_since(3)


# ------------------------------------------------------------------ saving and appending


def everything_in(home: Path) -> set[str]:
    if not home.exists():
        return set()
    return {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file() and "catalog.db" not in path.name}


def failing(rows: int) -> Dataset:
    def batches() -> Any:
        for start in range(0, rows, 10):
            yield pa.record_batch({"x": list(range(start, start + 10))})
        raise RuntimeError("the source broke")

    return Dataset.from_batches(batches, schema=X)


def test_a_name_that_is_taken(home: Path) -> None:
    saved(1)
    before = everything_in(home)
    with pytest.raises(DatasetExistsError, match="exists already"):
        saved(2)
    assert everything_in(home) == before
    assert xs(Dataset("t")) == [1]


def test_a_failing_source_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", "10")
    monkeypatch.setenv("LAKEFEED__WRITE__FILE_BYTES", "1")
    with pytest.raises(RuntimeError, match="broke"):
        failing(100).save("t")
    assert (everything_in(home), Dataset.exists("t")) == (set(), False)
    saved(1)
    before = everything_in(home)
    with pytest.raises(RuntimeError, match="broke"):
        failing(100).append_to("t")
    assert (everything_in(home), Dataset("t").version) == (before, 1)


@pytest.mark.parametrize(
    ("dataset", "error"),
    [
        (Dataset.from_dict, ColumnNotFoundError),
        (lambda _: Dataset.from_dict({"x": ["word"]}), TypeMismatchError),
        (lambda _: Dataset.from_dict({"x": [0.5]}), TypeMismatchError),
        (lambda _: Dataset.from_dict({"x": [1]}).map(lambda row: {"x": "no"}, schema=X), TransformError),
    ],
)
def test_rows_that_do_not_fit_leave_nothing(dataset: Any, error: type[Exception], home: Path) -> None:
    saved(1)
    before = everything_in(home)
    with pytest.raises(error, match=r"x|y"):
        dataset({"x": [1], "y": [2]}).append_to("t")
    assert (everything_in(home), Dataset("t").version) == (before, 1)


@pytest.mark.parametrize(
    "given",
    [
        {"copy_files": "yes"},
        {"stats": 1},
        {"provenance": "me"},
        {"fence": "key"},
        {"idempotency_key": 5},
        {"description": 5},
        {"column_types": "all"},
    ],
)
def test_bad_arguments_of_save(given: dict[str, Any], home: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(given))):
        Dataset.from_dict({"x": [1]}).save("t", **given)
    assert everything_in(home) == set()


def test_appends_widen_and_fill() -> None:
    Dataset.from_dict({"x": [1], "y": ["a"]}).save("t")
    Dataset.from_arrow(pa.table({"x": pa.array([2], pa.int8())})).append_to("t")
    Dataset.from_arrow(pa.table({"y": ["b"], "x": pa.array([3], pa.int16())})).append_to("t")
    expected = [{"x": 1, "y": "a"}, {"x": 2, "y": None}, {"x": 3, "y": "b"}]
    assert list(Dataset("t")) == expected


def test_an_idempotency_key_is_not_repeated() -> None:
    first = Dataset.from_dict({"x": [1]}).save("t", idempotency_key="k1")
    assert Dataset.from_dict({"x": [1]}).save("t", idempotency_key="k1").version == first.version
    add(2, idempotency_key="k2")
    assert add(2, idempotency_key="k2").version == 2
    assert xs(Dataset("t")) == [1, 2]


def test_a_fence_moves_once() -> None:
    saved(1)
    add(2, fence=Fence("f", None, "1"))
    with pytest.raises(RuntimeError):
        add(3, fence=Fence("f", None, "1"))
    assert xs(Dataset("t")) == [1, 2]


def test_a_dataset_stays_in_its_lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Dataset.from_dict({"x": [1]})
    monkeypatch.setenv("LAKEFEED_HOME", str(tmp_path / "other"))
    assert xs(here.save("t")) == xs(here.append_to("t").slice(1)) == [1]
    assert not Dataset.exists("t")


def test_a_dataset_can_be_appended_to_itself() -> None:
    saved(1, 2)
    assert xs(Dataset("t").append_to("t")) == [1, 2, 1, 2]


def test_an_empty_dataset_is_one() -> None:
    empty = Dataset.from_dict({"x": []}, schema=X).save("t")
    assert (len(empty), empty.version, list(empty), bool(empty)) == (0, 1, [], True)
    assert xs(empty.head(3)) == xs(empty.filter("x > 1")) == xs(empty.shuffle(1)) == []
    assert add(1).version == 2


def test_what_is_derived_is_saved_with_its_schema() -> None:
    field = pa.field("n", pa.int32(), nullable=False)
    mapped = saved(3, 1, 2).map(lambda row: {"n": row["x"]}, schema=pa.schema([field])).filter("n > 1").save("u")
    assert mapped.schema == pa.schema([field])
    assert mapped.to_arrow()["n"].to_pylist() == [3, 2]


# ------------------------------------------------------------------ administration


def test_what_is_in_the_lake() -> None:
    saved(1, name="b")
    saved(2, name="team.a")
    assert [dataset.name for dataset in list_datasets()] == ["b", "team.a"]
    assert (Dataset.exists("b"), Dataset.exists("a"), Dataset.exists("team.a")) == (True, False, True)
    assert xs(get_dataset("team.a")) == [2]
    with pytest.raises(DatasetNotFoundError):
        get_dataset("a")
    with pytest.raises(VersionNotFoundError):
        get_dataset("b", version=2)


def test_updates_make_no_version() -> None:
    dataset = Dataset.from_dict({"x": [1], "f": ["a.png"]}).save("t", description="old", column_types=None)
    assert dataset.update(description="new")["description"] == "new"
    dataset.update(column_types={})
    assert (dataset.description, Dataset("t").version) == ("new", 1)
    for bad in ({"description": 5}, {"column_types": {"none": "image"}}, {"column_types": {"x": "image"}}):
        with pytest.raises((InvalidArgumentError, SchemaError)):
            dataset.update(**bad)
    assert dataset.description == "new"


def test_delete() -> None:
    dataset = saved(1)
    dataset.delete()
    assert not Dataset.exists("t")
    with pytest.raises(DatasetNotFoundError):
        dataset.delete()
    assert saved(2).version == 2  # the number of a version never means two


# ------------------------------------------------------------------ mistakes, at the call


@pytest.mark.parametrize("origin", ["memory", "saved"])
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda d: d.select(["xx"]), ColumnNotFoundError, "Did you mean 'x'"),
        (lambda d: d.select(["x", "x"]), InvalidArgumentError, "more than once"),
        (lambda d: d.select([]), InvalidArgumentError, "at least one"),
        (lambda d: d.select("x"), InvalidArgumentError, "list of column names"),
        (lambda d: d.select(5), InvalidArgumentError, "list of column names"),
        (lambda d: d.select([1]), InvalidArgumentError, "list of column names"),
        (lambda d: d.head(-1), InvalidArgumentError, "head"),
        (lambda d: d.head(1.5), InvalidArgumentError, "head"),
        (lambda d: d.slice(-1), InvalidArgumentError, "slice"),
        (lambda d: d.slice(0, -1), InvalidArgumentError, "slice"),
        (lambda d: d.slice(3, 2), InvalidArgumentError, "less than start"),
        (lambda d: d.filter("xx > 1"), ColumnNotFoundError, "Did you mean 'x'"),
        (lambda d: d.filter("x >"), ExpressionError, r"\^"),
        (lambda d: d.filter("x > 'a'"), ExpressionError, r"\^"),
        (lambda d: d.filter(""), ExpressionError, "empty|expected|nothing"),
        (lambda d: d.filter(5), InvalidArgumentError, "function or an expression"),
        (lambda d: d.map(5, schema=X), InvalidArgumentError, "map needs a function"),
        (lambda d: d.map(dict, schema={"x": "int"}), TypeMismatchError, r"pyarrow\.Schema"),
        (lambda d: d.map(dict, schema=pa.schema([])), SchemaError, "at least one column"),
        (lambda d: d.map_batches(None, schema=X), InvalidArgumentError, "needs a function"),
        (lambda d: d.shuffle("a"), InvalidArgumentError, "seed"),
        (lambda d: d.shuffle(1, window=0), InvalidArgumentError, "window"),
        (lambda d: d.shuffle(1, global_=False, window=-1), InvalidArgumentError, "window"),
        (lambda d: d.train_test_split(test_size=0), InvalidArgumentError, "test_size"),
        (lambda d: d.train_test_split(test_size=1.0), InvalidArgumentError, "test_size"),
        (lambda d: d.train_test_split(test_size=True), InvalidArgumentError, "test_size"),
        (lambda d: d.train_test_split(by="xx"), ColumnNotFoundError, "Did you mean 'x'"),
        (lambda d: d.train_test_split(by=5), InvalidArgumentError, "by must be the name"),
        (lambda d: d.train_test_split(by="f"), TypeMismatchError, "cannot be a split key"),
        (lambda d: d.batches(0), InvalidArgumentError, "size=0"),
        (lambda d: d.batches(True), InvalidArgumentError, "size=True"),
        (lambda d: d.batches(format="numpy"), InvalidArgumentError, "formats are"),
        (lambda d: d.rows(load_files="all"), InvalidArgumentError, "load_files must be"),
        (lambda d: d.load_files({"x": "bytes"}), TypeMismatchError, "not file columns"),
        (lambda d: d.load_files({"xx": "bytes"}), ColumnNotFoundError, "Did you mean 'x'"),
        (lambda d: d.load_files(workers=0), InvalidArgumentError, "workers"),
        (lambda d: d.load_files(on_error="ignore"), InvalidArgumentError, "on_error"),
        (lambda d: d.with_column_types({"x": "image"}), TypeMismatchError, "'x'"),
        (lambda d: d.with_column_types({"xx": Image}), ColumnNotFoundError, "Did you mean 'x'"),
        (lambda d: d.with_column_types("all"), InvalidArgumentError, "column_types"),
        (lambda d: d.collect(max_bytes=-1), InvalidArgumentError, "max_bytes"),
        (lambda d: d.collect(max_bytes="1GB"), InvalidArgumentError, "max_bytes"),
        (lambda d: d.append_to("none"), DatasetNotFoundError, "none"),
    ],
)
def test_mistakes_are_told_at_the_call(origin: str, call: Any, error: type[Exception], message: str) -> None:
    dataset = Dataset.from_dict({"x": [1, 2], "f": [0.5, None]})
    if origin == "saved":
        dataset.save("t")
        dataset = Dataset("t")
    with pytest.raises(error, match=message):
        call(dataset)


def test_functions_are_not_run_when_they_are_given() -> None:
    dataset = Dataset.from_dict({"x": [1]})
    fail: Any = lambda row: pytest.fail("run")  # noqa: E731
    for derived in (dataset.filter(fail), dataset.map(fail, schema=X), dataset.map_batches(fail, schema=X)):
        assert derived.explain()
        assert derived.head(1).schema == X


# ------------------------------------------------------------------ results


def test_a_budget_is_noticed_before_it_is_spent() -> None:
    drawn = []

    def endless() -> Any:
        while True:
            drawn.append(1)
            yield pa.record_batch({"x": list(range(1000))})

    with pytest.raises(BudgetExceededError, match="max_bytes=20,000"):
        Dataset.from_batches(endless, schema=X).collect(max_bytes=20_000)
    assert len(drawn) <= 4
    assert Dataset.from_dict({"x": [1]}).collect(max_bytes=8).num_rows == 1


def test_a_large_result_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakefeed.run.to_memory.LARGE_RESULT_BYTES", 100)
    dataset = Dataset.from_dict({"x": list(range(1000))})
    with pytest.warns(LargeResultWarning, match="batches"):
        dataset.collect()
    assert dataset.collect(warn=False).num_rows == dataset.collect(max_bytes=10_000).num_rows == 1000


def test_pandas() -> None:
    frame = saved(1, 2).to_pandas()
    assert frame["x"].tolist() == [1, 2]
    assert Dataset.from_pandas(frame).to_arrow().to_pydict() == {"x": [1, 2]}


def test_batches_as_dicts_and_rows() -> None:
    dataset = Dataset.from_dict({"x": [1, 2, 3], "r": [{"a": [1]}, None, {"a": None}]})
    assert list(dataset.batches(2)) == [{"x": [1, 2], "r": [{"a": [1]}, None]}, {"x": [3], "r": [{"a": None}]}]
    assert list(dataset) == list(dataset.rows()) == dataset.to_arrow().to_pylist()


@pytest.mark.parametrize("make", ["batches", "shuffled", "rows", "windowed"])
def test_stopping_early_leaves_no_threads_and_no_files(make: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", "10")
    dataset = saved(*range(1000))
    before = set(threading.enumerate())
    iterator: Any = {
        "batches": lambda: dataset.batches(7, "arrow"),
        "rows": lambda: dataset.filter("x > 3").rows(),
        "shuffled": lambda: dataset.shuffle(1).batches(),
        "windowed": lambda: dataset.shuffle(1, global_=False, window=20).rows(),
    }[make]()
    next(iterator)
    iterator.close()
    assert set(threading.enumerate()) <= before
    assert not [link for link in Path("/proc/self/fd").iterdir() if ".parquet" in str(link.resolve())]


def in_another_process(dataset: Dataset) -> tuple[int, list[int]]:
    return os.getpid(), [row["x"] for batch in dataset.batches() for row in [{"x": x} for x in batch["x"]]]


def positive(row: dict[str, Any]) -> bool:
    return bool(row["x"] > 0)


def test_datasets_travel_to_other_processes() -> None:
    saved(0, 1)
    add(2, 3)
    following = Dataset("t")
    shuffled = following.shuffle(3)
    datasets = [following, following.filter("x > 1"), following.filter(positive), following.added_since(1), shuffled]
    with ProcessPoolExecutor(1, mp_context=context()) as pool:
        found = list(pool.map(in_another_process, datasets))
    assert [rows for _, rows in found] == [[0, 1, 2, 3], [2, 3], [1, 2, 3], [2, 3], xs(shuffled)]
    assert os.getpid() not in {pid for pid, _ in found}


# ------------------------------------------------------------------ splits and shuffles


def test_sides_are_disjoint_complete_and_the_same_again() -> None:
    dataset = saved(*range(100))
    for given in ({}, {"seed": 3}, {"by": "x"}, {"by": "x", "seed": 3}):
        sides = dataset.train_test_split(test_size=0.3, **given)
        train, test = xs(sides["train"]), xs(sides["test"])
        assert sorted(train + test) == list(range(100))
        assert (train, test) == (sorted(train), sorted(test))
        assert xs(dataset.train_test_split(test_size=0.3, **given)["test"]) == test
        assert len(test) == 30 or (given and "by" in given and 15 <= len(test) <= 45)


def test_appends_move_no_row_between_the_sides_of_a_key() -> None:
    before = saved(*range(50)).train_test_split(by="x")
    add(*range(50, 100))
    after = Dataset("t").train_test_split(by="x")
    for side in ("train", "test"):
        assert xs(after[side])[: len(xs(before[side]))] == xs(before[side])


def test_shuffles_are_permutations_that_repeat() -> None:
    dataset = saved(*range(500))
    for given in ({"seed": 1}, {"seed": 1, "global_": False, "window": 50}):
        once, again = xs(dataset.shuffle(**given)), xs(dataset.shuffle(**given))
        assert once == again != list(range(500))
        assert sorted(once) == list(range(500))
        assert xs(dataset.shuffle(**{**given, "seed": 2})) != once
    drawn = dataset.shuffle()
    assert xs(drawn) == xs(drawn) == xs(pickle.loads(pickle.dumps(drawn)))
    assert xs(drawn) != xs(dataset.shuffle())


def test_what_is_made_of_known_rows_is_known() -> None:
    known = Dataset.from_dict({"x": [3, 1, 2]})
    streamed = Dataset.from_batches(known.to_arrow().to_batches, schema=known.schema)
    assert len(known.repeat(4)) == len(concatenate([known.repeat(3), known.sort("x")])) == 12
    assert known.repeat(2**40).skip(1).count() == 3 * 2**40 - 1
    for rows in (streamed.repeat(2), concatenate([known, streamed]), known.filter("x > 1").sort("x")):
        with pytest.raises(TypeError, match="count"):
            len(rows)
