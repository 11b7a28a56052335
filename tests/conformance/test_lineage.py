"""Rows know the snapshots that they were read from, whatever was done with them and wherever they were kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from lakefeed import Dataset, concatenate
from lakefeed.catalog.lake import Lake
from lakefeed.errors import CommitConflictError
from lakefeed.plan import lineage
from lakefeed.routines import column_lineage
from tests.conformance.test_ops import MAKERS, TABLE

Keep = Callable[[Dataset, Path], Dataset]

KEEPERS: dict[str, Keep] = {
    "nothing": lambda rows, folder: rows,
    "cache": lambda rows, folder: rows.cache(),
    "cache at a path": lambda rows, folder: rows.cache(folder / "cached"),
    "mapped": lambda rows, folder: rows.mapped(),
    "mapped at a path": lambda rows, folder: rows.mapped(folder / "mapped"),
    "cache, then mapped": lambda rows, folder: rows.cache(folder / "first").mapped(),
    "mapped, then cache": lambda rows, folder: rows.mapped().cache(folder / "second"),
}

DERIVATIONS: dict[str, Callable[[Dataset], Dataset]] = {
    "filter": lambda rows: rows.filter("x > 0"),
    "sql": lambda rows: rows.sql("SELECT * FROM data"),
    "join": lambda rows: rows.join(Dataset.from_dict({"x": [1, 2], "z": [0, 0]}), keys="x").drop("z"),
    "concatenate": lambda rows: concatenate([Dataset.from_dict({"x": [9]}), rows]),
    "shuffle": lambda rows: rows.shuffle(seed=1),
    "map": lambda rows: rows.map(lambda row: row, schema=rows.schema),
}


@pytest.mark.live
def test_every_operation_passes_on_the_snapshots_that_its_rows_come_from(tmp_path: Path) -> None:
    """Before and after the rows are kept on disk, and also where the copy was made by an earlier call."""
    Dataset.from_arrow(TABLE).save("t")
    rows = Dataset("t", version=1)
    expected = lineage(rows._plan).origins
    assert [(origin.dataset, origin.version) for origin in expected] == [("t", 1)]
    for op, make in MAKERS.items():
        derived = rows._derive(make(rows._plan, tmp_path))
        assert lineage(derived._plan).origins == expected, op
        if op.deterministic and op.__name__ not in ("LoadFiles", "FileColumns"):  # files that nobody can fetch
            for name, keep in list(KEEPERS.items())[1:4]:
                for _ in range(2):
                    copied = keep(derived, tmp_path / op.__name__)
                    assert lineage(copied._plan).origins == expected, (op, name)


@pytest.mark.parametrize(
    ("keeper", "derivation"),
    [
        *((keeper, "filter") for keeper in KEEPERS),
        *((keeper, each) for each in DERIVATIONS for keeper in ("cache", "mapped")),
    ],
)
def test_an_overwrite_never_takes_away_rows_that_came_after_its_rows_were_read(
    keeper: str, derivation: str, tmp_path: Path
) -> None:
    Dataset.from_dict({"x": [1, 2, 3]}).save("t")
    kept = KEEPERS[keeper](Dataset("t", version=1), tmp_path)
    derived = DERIVATIONS[derivation](kept)
    Dataset.from_dict({"x": [4]}).append_to("t")  # another writer
    with pytest.raises(CommitConflictError, match="moved on to version 2"):
        derived.overwrite("t")
    with pytest.raises(CommitConflictError, match="moved on to version 2"):
        KEEPERS[keeper](derived, tmp_path / "derived").overwrite("t")
    assert Dataset("t").to_arrow()["x"].to_pylist() == [1, 2, 3, 4]
    newest = DERIVATIONS[derivation](KEEPERS[keeper](Dataset("t", version=2), tmp_path / "newest"))
    newest.overwrite("t")
    assert Dataset("t").version == 3


def test_an_overwrite_of_another_dataset_asks_nothing_of_what_was_read(tmp_path: Path) -> None:
    Dataset.from_dict({"x": [1]}).save("read")
    Dataset.from_dict({"x": [0]}).save("written")
    rows = Dataset("read", version=1).cache(tmp_path / "kept")
    Dataset.from_dict({"x": [2]}).append_to("read")
    assert rows.overwrite("written").to_arrow()["x"].to_pylist() == [1]


@pytest.mark.parametrize("keeper", KEEPERS)
def test_columns_are_traced_through_copies_on_disk(keeper: str, tmp_path: Path) -> None:
    Dataset.from_dict({"a": [1, 2], "b": [3, 4], "c": ["x", "y"]}).save("t")
    kept = KEEPERS[keeper](Dataset("t", version=1).rename({"c": "d"}), tmp_path).with_column("s", "a + b")
    counted = kept.sql("SELECT count(*) AS n FROM data")
    assert column_lineage(kept) == {
        "a": [("t", "a")],
        "b": [("t", "b")],
        "d": [("t", "c")],
        "s": [("t", "a"), ("t", "b")],
    }
    assert column_lineage(counted) == {}


def test_mirrors_of_what_versions_added_and_removed_are_told_apart() -> None:
    Dataset.from_dict({"x": [1, 2, 3]}).save("t")
    Dataset("t").delete_rows("x == 2")
    Dataset.from_dict({"x": [4]}).append_to("t")
    rows = Dataset("t")
    for _ in range(2):
        assert rows.added_since(1).cache().to_arrow()["x"].to_pylist() == [4]
        assert rows.removed_since(1).cache().to_arrow()["x"].to_pylist() == [2]
        assert rows.cache().to_arrow()["x"].to_pylist() == [1, 3, 4]


def test_mirrors_of_a_version_and_of_its_rows_under_changed_columns_are_told_apart(lake: Lake) -> None:
    Dataset.from_dict({"x": pa.array([1, 2], pa.int32()), "y": ["a", "b"]}).save("t")
    assert Dataset("t", version=1).cache().schema.field("x").type == pa.int32()
    Dataset("t").widen_column("x", pa.int64())
    Dataset("t").rename_column("y", "z")
    Dataset("t").add_column("w", pa.float32())
    for _ in range(2):
        newest, pinned = Dataset("t").cache(), Dataset("t", version=1).cache()
        assert newest.to_arrow().schema.types == [pa.int64(), pa.string(), pa.float32()]
        assert newest.to_arrow().to_pylist() == [{"x": 1, "z": "a", "w": None}, {"x": 2, "z": "b", "w": None}]
        assert pinned.to_arrow().to_pylist() == [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}]
