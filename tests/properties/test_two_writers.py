"""Random histories of two programs on one table: both read the same rows after every step."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table
from pyiceberg.types import LongType, StringType, StructType

from lakefeed import Dataset
from lakefeed.catalog import Lake
from tests.sdk.two_writers import NAME, Rows, add_file, ours, theirs


@pytest.fixture
def plain(lake: Lake) -> Iterator[SqlCatalog]:
    """PyIceberg's own catalog on the same database."""
    lake.names()
    with SqlCatalog("lakefeed", uri=lake.settings.catalog_uri, warehouse=lake.settings.warehouse) as catalog:
        yield catalog


@pytest.mark.parametrize(
    ("steps", "histories"),
    [(6, 2), pytest.param(25, 400, marks=[pytest.mark.soak, pytest.mark.timeout(0)], id="long")],
)
def test_both_read_the_same_whatever_the_history(plain: SqlCatalog, tmp_path: Path, steps: int, histories: int) -> None:
    @settings(max_examples=histories, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.randoms(use_true_random=False))
    def check(pick: random.Random) -> None:
        if plain.table_exists(NAME):
            plain.drop_table(NAME)
        History(plain, tmp_path, pick).run(steps)

    check()


class History:
    """Random changes by both programs; after each of them both read the same rows, and older versions stay."""

    def __init__(self, plain: SqlCatalog, folder: Path, pick: random.Random) -> None:
        self.plain, self.folder, self.pick = plain, folder, pick
        self.names = (f"n{number}" for number in itertools.count())
        self.keys = itertools.count()
        kind = pa.struct([("a", pa.int64()), ("b", pa.string())])
        schema = pa.schema([("k", pa.int64()), ("x", pa.int64()), ("s", kind), ("l", pa.list_(kind))])
        plain.create_table(NAME, schema)
        self.add_file()
        self.changes: list[Callable[[], object]] = [
            self.append, self.append_here, self.add_file, self.add_file, self.add_column, self.add_column_here,
            self.rename_column, self.rename_column_here, self.drop_column, self.drop_and_add_column,
            self.reorder_columns, self.delete_rows,
        ]  # fmt: skip

    def run(self, steps: int) -> None:
        versions: dict[int, Rows] = {}
        for _ in range(steps):
            self.pick.choice(self.changes)()
            assert ours() == theirs(self.plain)
            newest = Dataset("t").version
            versions.setdefault(newest, ours(version=newest))
        for number, rows in versions.items():
            assert ours(version=number) == rows

    @property
    def table(self) -> Table:
        return self.plain.load_table(NAME)

    def paths(self, *, nested: bool = True) -> list[tuple[str, ...]]:
        """The columns but the key, and the fields of structs."""
        found: list[tuple[str, ...]] = []
        for field in self.table.schema().fields:
            if field.name != "k":
                found.append((field.name,))
            if nested and isinstance(field.field_type, StructType):
                found += [(field.name, one.name) for one in field.field_type.fields]
        return found

    def kind(self, path: tuple[str, ...]) -> Any:
        return self.table.schema().find_field(".".join(path)).field_type

    def rows(self) -> pa.Table:
        schema = pa.schema([(f.name, _plain_type(f.type)) for f in self.table.schema().as_arrow()])
        made = [{f.name: _value(f.type, self.pick) for f in schema} | {"k": next(self.keys)} for _ in range(3)]
        return pa.Table.from_pylist(made, schema)

    def append(self) -> None:
        self.table.append(self.rows())

    def append_here(self) -> None:
        Dataset.from_arrow(self.rows()).append_to("t")

    def add_file(self) -> None:
        add_file(self.table, self.folder, self.rows())

    def add_column(self) -> None:
        structs = [path for path in self.paths(nested=False) if isinstance(self.kind(path), StructType)]
        with self.table.update_schema() as update:
            update.add_column(
                (*self.pick.choice([(), *structs]), next(self.names)), self.pick.choice([LongType(), StringType()])
            )

    def add_column_here(self) -> None:
        Dataset("t").add_column(next(self.names), self.pick.choice([pa.int64(), pa.string()]))

    def rename_column(self) -> None:
        with self.table.update_schema() as update:
            update.rename_column(self.pick.choice(self.paths()), next(self.names))

    def rename_column_here(self) -> None:
        Dataset("t").rename_column(self.pick.choice(self.paths(nested=False))[0], next(self.names))

    def drop_column(self) -> None:
        found = [path for path in self.paths() if len(path) == 1 or len(self.kind(path[:1]).fields) > 1]
        if len(found) > 3:
            with self.table.update_schema() as update:
                update.delete_column(self.pick.choice(found))

    def drop_and_add_column(self) -> None:
        # PyIceberg's mapping gives the old values to the new column: of another type, they could not be read.
        simple = [path for path in self.paths() if self.kind(path).is_primitive]
        if simple:
            path = self.pick.choice(simple)
            kind = self.kind(path)
            with self.table.update_schema() as update:
                update.delete_column(path)
            with self.table.update_schema() as update:
                update.add_column(path, kind)

    def reorder_columns(self) -> None:
        with self.table.update_schema() as update:
            update.move_first(self.pick.choice(self.paths()))

    def delete_rows(self) -> None:
        Dataset("t").delete_rows(self.pick.choice(["k % 2 == 1", "k % 3 == 0", "k == 2"]))


def _value(kind: pa.DataType, pick: random.Random) -> Any:
    listed = pa.types.is_list(kind)
    if pick.random() < 0.2 and not listed:  # PyIceberg makes empty lists of null ones
        return None
    if pa.types.is_struct(kind):
        return {kind.field(place).name: _value(kind.field(place).type, pick) for place in range(kind.num_fields)}
    if listed:
        return [_value(kind.value_type, pick) for _ in range(pick.randrange(3))]
    return pick.randrange(100) if pa.types.is_integer(kind) else f"t{pick.randrange(100)}"


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct([(kind.field(p).name, _plain_type(kind.field(p).type)) for p in range(kind.num_fields)])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_plain_type(kind.value_type))
    return pa.int64() if pa.types.is_integer(kind) else pa.string()
