"""A dataset by its name, and which of its versions is meant."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import DESCRIPTION
from lakefeed.catalog.schema import declared_schema
from lakefeed.catalog.versions import DatasetVersion, Pin, list_versions, resolve, versions_between
from lakefeed.ops import Scan
from lakefeed.run.save import typed_columns
from lakefeed.sources.iceberg import IcebergSource, Since

if TYPE_CHECKING:
    from pyiceberg.table import Table


@dataclass(frozen=True)
class Reference:
    """The version that ``pin`` says of the dataset ``name``; None: the newest, whenever it is looked at."""

    lake: Lake
    name: str
    pin: Pin | None

    def table(self) -> Table:
        """The table as it is now."""
        return self.lake.table(self.name)

    def resolved(self) -> DatasetVersion:
        """The version that is meant now."""
        return resolve(self.table(), self.pin)

    def scan(self) -> Scan:
        """Its rows."""
        table = self.table()
        return Scan(self._source(table, resolve(table, self.pin)))

    def since(
        self, what: Literal["added", "removed", "gained"], start: Pin | None, stop: Pin | None
    ) -> tuple[IcebergSource, int | None]:
        """What versions after ``start`` (None: all) up to ``stop`` (None: this one) did, and the number of ``start``.

        Raises:
            VersionNotFoundError, InvalidArgumentError: no such versions, or not in order.
        """
        table = self.table()
        first = None if start is None else resolve(table, start).version
        last = resolve(table, self.pin if stop is None else stop)
        versions_between(table, first, last.version)
        reference = self if stop is None else replace(self, pin=last.version)
        return reference._source(table, last, Since(first, what)), first

    def metadata(self) -> dict[str, Any]:
        """Name, description, schema, column types, properties and versions, as the catalog has them."""
        table = self.table()
        return {
            "name": self.name,
            "description": table.properties.get(DESCRIPTION),
            "schema": declared_schema(table),
            "column_types": typed_columns(declared_schema(table)),
            "properties": dict(table.properties),
            "snapshots": list_versions(table),
        }

    def _source(self, table: Table, version: DatasetVersion, since: Since | None = None) -> IcebergSource:
        # The newest rows come with the columns of now, a version with its own.
        columns = table.metadata.current_schema_id if self.pin is None else None
        return IcebergSource.of(self.lake, self.name, table, version, since, columns)
