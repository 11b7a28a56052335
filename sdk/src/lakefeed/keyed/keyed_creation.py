"""The creation of keyed tables, and their names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakefeed._validate import check_flag, check_text
from lakefeed.catalog.commit import create
from lakefeed.catalog.drop_table import withdraw
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import COLUMN_FILES, ROOT
from lakefeed.catalog.schema import declared_schema, normalize_schema
from lakefeed.catalog.table_locations import check_root
from lakefeed.errors import DatasetExistsError, SchemaError
from lakefeed.keyed.key_schema import check_key_schema
from lakefeed.keyed.pinned_table import require_key

if TYPE_CHECKING:
    from lakefeed.keyed.keyed_table import Table


def create_table(
    lake: Lake, name: str, key_schema: Any, root_uri: Any, exist_ok: Any, description: Any, column_files: Any = True
) -> Table:
    """Creates a table; see `Table.create`."""
    from lakefeed.keyed.keyed_table import open_table

    schema = check_key_schema(key_schema)
    check_flag(exist_ok, "exist_ok")
    properties = {} if check_flag(column_files, "column_files") else {COLUMN_FILES: "off"}
    if description is not None:
        check_text(description, "description")
    root = None if root_uri is None else check_root(root_uri)
    table = open_table(lake, name)
    try:
        create(lake, name, schema, (), description=description, key=schema.names, root=root, properties=properties)
    except DatasetExistsError:
        if not exist_ok:
            raise DatasetExistsError(
                f"table {name!r} exists already; open it with table({name!r}), or pass exist_ok=True"
            ) from None
        _check_same_key(lake, name, schema)
        _check_same_root(lake, name, root)
    return table


@contextmanager
def new_table(lake: Lake, name: str, key_schema: Any, description: str | None = None) -> Iterator[Table]:
    """Yields a new table for the first rows of it. If the block fails, the table is removed.

    A table to which another writer has written meanwhile stays.

    Raises:
        DatasetExistsError: a dataset of that name exists.
        SchemaError: the key has no columns.
    """
    table = create_table(lake, name, key_schema, None, False, description)
    created = lake.table(name).metadata.table_uuid
    try:
        yield table
    except BaseException:
        withdraw(lake, name, created)
        raise


def _check_same_root(lake: Lake, name: str, root: str | None) -> None:
    present = lake.table(name).properties.get(ROOT)
    if root is not None and root != present:
        where = "in the warehouse" if present is None else f"below {present!r}"
        raise DatasetExistsError(f"table {name!r} exists {where}, not below {root!r}; leave root_uri out to open it")


def _check_same_key(lake: Lake, name: str, schema: pa.Schema) -> None:
    table = lake.table(name)
    keys, declared = require_key(table, name), declared_schema(table)
    present = {key: declared.field(key).type for key in keys}
    wanted = {field.name: field.type for field in normalize_schema(schema)}
    if list(present.items()) != list(wanted.items()):
        raise SchemaError(f"table {name!r} exists with the key {present}, not {wanted}")
