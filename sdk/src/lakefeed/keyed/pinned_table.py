"""A version of a keyed table with its source of rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from lakefeed.catalog.compaction import is_in_key_order
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.schema import snapshot_schema
from lakefeed.catalog.table_key import key_columns
from lakefeed.catalog.versions import DatasetVersion, Pin, newest_or_empty, resolve
from lakefeed.errors import InvalidArgumentError, VersionNotFoundError, quoted_list
from lakefeed.keyed.table_lookup import find_table, find_table_or_successor
from lakefeed.sources.iceberg_source import IcebergSource


@dataclass(frozen=True, eq=False)
class PinnedTable:
    """A version of a table, read with the columns of then, or of the newest version with those of now.

    Attributes:
        lake: the lake.
        name: the name of the table.
        version: the version.
        schema_id: the Iceberg schema; None for that of the version.
        keys: the key columns.
    """

    lake: Lake
    name: str
    version: DatasetVersion
    schema_id: int | None
    keys: tuple[str, ...]

    @classmethod
    def of(cls, lake: Lake, name: str, pin: Pin | None) -> PinnedTable:
        """Returns the version that ``pin`` names; the newest for None.

        Raises:
            DatasetNotFoundError, VersionNotFoundError: it does not exist.
            InvalidArgumentError: the dataset has no key.
        """
        table = lake.table(name)
        keys = require_key(table, name)
        version = newest_or_empty(table) if pin is None else resolve(table, pin)
        if pin is not None:
            keys = key_columns(table, snapshot_schema(table, version.snapshot_id)) or keys
        pinned = cls(lake, name, version, table.metadata.current_schema_id if pin is None else None, keys)
        pinned.__dict__["source"] = IcebergSource.of(lake, name, table, version, None, pinned.schema_id)
        return pinned

    @classmethod
    def newest(cls, lake: Lake, name: str, table_uuid: str) -> PinnedTable:
        """Returns the newest version of a table that had the name ``name``, by which terms name it.

        If it was deleted, that of the table that has its name now.

        Raises:
            DatasetNotFoundError: there is neither.
        """
        match = find_table_or_successor(lake, name, table_uuid)
        now, table = (name, lake.table(name)) if match is None else match
        version, schema_id = newest_or_empty(table), table.metadata.current_schema_id
        pinned = cls(lake, name, version, schema_id, require_key(table, now))
        pinned.__dict__["source"] = IcebergSource.of(lake, now, table, version, None, schema_id)
        return pinned

    @cached_property
    def source(self) -> IcebergSource:
        """The rows."""
        return IcebergSource(self.lake, self.name, self.version, None, self.schema_id)

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns."""
        return self.source.schema

    @cached_property
    def is_in_key_order(self) -> bool:
        """Returns whether the rows lie in the order of the key, as after a compaction."""
        return is_in_key_order(self.source.table, self.source.files)

    @property
    def key_schema(self) -> pa.Schema:
        """The key columns."""
        return pa.schema([self.schema.field(name) for name in self.keys])

    def state(self) -> dict[str, Any]:
        """Returns what identifies the version, for `resumed`."""
        return {
            "table": self.name,
            "uuid": self.version.table_uuid,
            "version": self.version.version,
            "snapshot": self.version.snapshot_id,
            "schema": self.schema_id,
        }

    @classmethod
    def resumed(cls, lake: Lake, state: dict[str, Any]) -> PinnedTable:
        """Returns the version of a state.

        Raises:
            VersionNotFoundError: the table was dropped, or the version has expired.
        """
        # Terms of the scan have the name that the table had when the state was saved.
        match = find_table(lake, state["table"], state["uuid"])
        if match is None:
            lake.table(state["table"])  # raises the error that says when it was dropped
            raise VersionNotFoundError(
                f"{state['table']!r} was dropped and created again since the state of this scan was saved"
            )
        name, table = match
        keys = require_key(table, state["table"])
        empty = newest_or_empty(table)
        version = empty if state["version"] == empty.version == 0 else resolve(table, state["version"])
        if version.snapshot_id != state["snapshot"]:
            raise VersionNotFoundError(
                f"version {state['version']} of {state['table']!r} is no longer that of the state"
            )
        if version.version and state["schema"] is None:
            keys = key_columns(table, snapshot_schema(table, version.snapshot_id)) or keys
        elif state["schema"] is not None:
            keys = key_columns(table, table.schemas()[state["schema"]]) or keys
        pinned = cls(lake, state["table"], version, state["schema"], keys)
        pinned.__dict__["source"] = IcebergSource.of(lake, name, table, version, None, state["schema"])
        return pinned


def require_key(table: Any, name: str) -> tuple[str, ...]:
    """Returns the key columns of a table.

    Raises:
        InvalidArgumentError: it has none.
    """
    keys = key_columns(table)
    if not keys:
        raise InvalidArgumentError(
            f"{name!r} is a dataset without a key; its columns: {quoted_list(f.name for f in table.schema().fields)}."
            f" Use Dataset({name!r}), or create a table with create_table(…, key_schema=…)"
        )
    return keys
