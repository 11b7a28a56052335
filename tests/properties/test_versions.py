"""Random histories of a dataset against a model in memory: rows, order, what each version added and removed."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakefeed import Dataset
from lakefeed.catalog.lake import Lake

SCHEMA = pa.schema([("id", pa.int32()), ("x", pa.float32()), ("s", pa.string())])
# Several files a commit, several row groups a file.
SMALL = {"LAKEFEED__WRITE__ROW_GROUP_ROWS": "2", "LAKEFEED__WRITE__FILE_BYTES": "60"}
Row = tuple[int, float | None, str | None]

ids = st.integers(0, 12)
values = st.none() | st.sampled_from([0.0, 1.5, float("inf"), -2.0])
texts = st.none() | st.sampled_from(["", "a", "ü"])
some_rows = st.lists(st.tuples(ids, values, texts), max_size=6)
actions = st.one_of(
    st.tuples(st.just("append"), some_rows),
    st.tuples(st.just("upsert"), st.lists(st.tuples(ids, values, texts), max_size=5, unique_by=lambda row: row[0])),
    st.tuples(st.just("delete"), st.tuples(ids, ids)),
    st.tuples(st.just("overwrite"), some_rows),
    st.tuples(st.just("restore"), st.integers(1, 20)),
)


def dataset(rows: list[Row]) -> Dataset:
    columns = list(zip(*rows, strict=True)) or [[], [], []]
    return Dataset.from_dict(dict(zip(SCHEMA.names, map(list, columns), strict=True)), schema=SCHEMA)


def read(rows: Dataset) -> list[Row]:
    return [tuple(row.values()) for row in rows.to_arrow().to_pylist()]


@dataclass
class Model:
    """What each version must hold, have added and have removed."""

    versions: list[list[Row]]
    added: list[list[Row]] = field(default_factory=list)
    removed: list[list[Row]] = field(default_factory=list)

    def commit(self, rows: list[Row], added: list[Row], removed: list[Row]) -> None:
        self.versions.append(rows)
        self.added.append(added)
        self.removed.append(removed)

    @property
    def now(self) -> list[Row]:
        return self.versions[-1]

    def apply(self, kind: str, given: Any) -> None:
        getattr(self, f"_{kind}")(given)

    def _append(self, rows: list[Row]) -> None:
        if rows:
            self.commit(self.now + rows, rows, [])

    def _upsert(self, rows: list[Row]) -> None:
        there: dict[int, list[Row]] = {}
        for row in self.now:
            there.setdefault(row[0], []).append(row)
        new = [row for row in rows if there.get(row[0]) != [row]]
        keys = {row[0] for row in new}
        if new:
            gone = [row for row in self.now if row[0] in keys]
            came = Counter(new)
            self.commit(
                [row for row in self.now if row[0] not in keys] + new, new, list((Counter(gone) - came).elements())
            )

    def _delete(self, bounds: tuple[int, int]) -> None:
        gone = [row for row in self.now if bounds[0] <= row[0] < bounds[1]]
        if gone:
            self.commit([row for row in self.now if not bounds[0] <= row[0] < bounds[1]], [], gone)

    def _overwrite(self, rows: list[Row]) -> None:
        if rows or self.now:
            self.commit(
                rows,
                list((Counter(rows) - Counter(self.now)).elements()),
                list((Counter(self.now) - Counter(rows)).elements()),
            )

    def _restore(self, version: int) -> None:
        old = self.versions[(version - 1) % len(self.versions)]
        if old != self.now:
            self.commit(old, [], list((Counter(self.now) - Counter(old)).elements()))


def act(kind: str, given: Any, versions: int) -> None:
    if kind == "append":
        dataset(given).append_to("t")
    elif kind == "upsert":
        dataset(given).upsert_into("t", keys="id")
    elif kind == "delete":
        Dataset("t").delete_rows(f"id >= {given[0]} and id < {given[1]}")
    elif kind == "overwrite":
        dataset(given).overwrite("t")
    else:
        Dataset("t").restore((given - 1) % versions + 1)


@pytest.mark.slow
@settings(max_examples=3 * settings.default.max_examples // 5)
@given(some_rows, st.lists(actions, max_size=6))
def test_histories(first: list[Row], history: list[tuple[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as home, patch.dict(os.environ, {"LAKEFEED_HOME": home, **SMALL}):
        dataset(first).save("t")
        model = Model([first], [first], [[]])
        for kind, given in history:
            before = list(model.versions)
            act(kind, given, len(before))
            model.apply(kind, given)
            check_newest(model, kind)
        check_history(model)
        Lake.current().close()


def check_newest(model: Model, kind: str) -> None:
    newest = Dataset("t")
    # A restore to equal rows in other files is a version too.
    if newest.version == len(model.versions) + 1:
        assert kind == "restore"
        model.commit(model.now, [], [])
    assert newest.version == len(model.versions)
    assert read(newest) == model.now
    assert len(newest) == len(model.now) == newest.list_versions()[0].total_records
    plain = Lake.current().table("t").scan().to_arrow()
    assert Counter(tuple(row.values()) for row in plain.to_pylist()) == Counter(model.now)


def check_history(model: Model) -> None:
    for version, rows in enumerate(model.versions, 1):
        start = version - 1 or None
        assert read(Dataset("t", version=version)) == rows
        added = Dataset("t").added_since(start, version)
        assert Counter(read(added)) == Counter(model.added[version - 1]), version
        assert added.count() == len(model.added[version - 1])
        if start:
            removed = read(Dataset("t").removed_since(start, version))
            assert Counter(removed) == Counter(model.removed[version - 1]), version
    everything = [row for rows in model.added for row in rows]
    assert Counter(read(Dataset("t").added_since())) == Counter(everything)
    first, last = Counter(model.versions[0]), Counter(model.now)
    report = Dataset("t").changes(1)
    assert (report.added, report.removed) == ((last - first).total(), (first - last).total())
