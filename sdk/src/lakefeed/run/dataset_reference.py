"""A dataset by its name, and which of its versions is meant."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from lakefeed import media, ops
from lakefeed.catalog import plan_cache, schema, table_identity, table_listing, version_tags, versions
from lakefeed.catalog.properties import DESCRIPTION
from lakefeed.sources import iceberg_source

if TYPE_CHECKING:
    from uuid import UUID

    from pyiceberg.table import Table

    from lakefeed.catalog.file_access import LocalAccess
    from lakefeed.catalog.lake import Lake
    from lakefeed.catalog.scan_plan import ScanPlan
    from lakefeed.catalog.snapshot_facts import TableFacts
    from lakefeed.catalog.versions import DatasetVersion, Pin
    from lakefeed.ops import Scan
    from lakefeed.sources.iceberg_source import IcebergSource, Since


@dataclass
class Identity:
    """The table in which a version, tag or time was looked up first; it is never looked up in another one."""

    table_uuid: str = ""


@dataclass(frozen=True)
class Reference:
    """The version that ``pin`` says of the dataset ``name``; None: the newest, whenever it is looked at.

    A pin stays with the table in which it was resolved first; ``None`` follows the name.
    """

    lake: Lake
    name: str
    pin: Pin | None
    identity: Identity = field(default_factory=Identity)

    def table(self) -> Table:
        """The table as it is now.

        Raises:
            DatasetNotFoundError: it was deleted.
            VersionNotFoundError: it was deleted and made again since the pin was resolved.
        """
        table = self._same()
        self._tie(table.metadata.table_uuid)
        return table

    def changed(self) -> str:
        """The name of the dataset, for a change; it must still be the table that a pin was resolved in.

        Raises:
            DatasetNotFoundError, VersionNotFoundError: as `table`.
        """
        if self.identity.table_uuid:
            self._same()
        return self.name

    def resolved(self) -> DatasetVersion:
        """The version that is meant now."""
        cached = self._cached_plan()
        if cached is not None:
            return cached[0].version
        facts = None if isinstance(self.pin, versions.AsOf) else self._facts()
        version = None if facts is None else facts.find(self.pin)
        if version is None:
            return self._resolved()[1]
        self._tie(version.table_uuid)
        return version

    def list_versions(self) -> list[DatasetVersion]:
        """All versions of the dataset, newest first."""
        facts = self._tied_facts()
        return versions.list_versions(self.table()) if facts is None else [each.entry for each in facts.versions]

    def tags(self) -> dict[str, int]:
        """The version numbers of the tags, by name."""
        facts = self._tied_facts()
        return version_tags.tags(self.table()) if facts is None else dict(facts.tags)

    def description(self) -> str | None:
        """The description of the dataset."""
        facts = self._tied_facts()
        return (self.table() if facts is None else facts).properties.get(DESCRIPTION)

    def scan(self) -> Scan:
        """Its rows."""
        cached = self._cached_plan()
        if cached is not None:
            return ops.Scan(iceberg_source.IcebergSource.of_plan(self.lake, self.name, *cached))
        if self.pin is not None:
            return ops.Scan(self._source(*self._resolved()))
        table = self._same()
        return ops.Scan(self._source(table, versions.newest_or_empty(table)))

    def since(
        self, kind: Literal["added", "removed", "gained"], start: Pin | None, stop: Pin | None
    ) -> tuple[IcebergSource, int | None]:
        """Returns the changes of the versions after ``start`` (None: all) up to ``stop`` (None: this), and ``start``.

        Raises:
            VersionNotFoundError, InvalidArgumentError: no such versions, or not in order.
        """
        table = self._same()
        end = self.pin if stop is None else stop
        if end is None and table.current_snapshot() is None and start is None:
            return self._source(table, versions.newest_or_empty(table), iceberg_source.Since(None, kind)), None
        head = versions.find_snapshot(table, end)
        last = versions.version_of(head, table)
        # A number means a version before the last one, which need not be among those of now.
        first = start if start is None or isinstance(start, int) else versions.resolve(table, start).version
        versions.versions_between(table, first, last.version, head)
        self._tie(table.metadata.table_uuid)
        reference = self if stop is None else replace(self, pin=last.version)
        return reference._source(table, last, iceberg_source.Since(first, kind)), first

    def after(self, kind: Literal["added", "removed"], known: int) -> IcebergSource:
        """Returns the changes of the versions after number ``known`` up to this one, even if that has expired."""
        return self._source(*self._resolved(), iceberg_source.Since(known, kind))

    def metadata(self) -> dict[str, Any]:
        """Name, description, schema, column types, properties, versions, tags and branches, as the catalog has them."""
        table = self.table()
        return {
            "name": self.name,
            "description": table.properties.get(DESCRIPTION),
            "schema": schema.declared_schema(table),
            "column_types": media.typed_columns(schema.declared_schema(table)),
            "properties": dict(table.properties),
            "snapshots": [versions.entry_of(version) for version in versions.list_versions(table)],
            "tags": version_tags.tags(table),
            "branches": version_tags.branches(table),
        }

    def _cached_plan(self) -> tuple[ScanPlan, LocalAccess] | None:
        """Returns the plan of the version from the cache of the lake; None if the table must be loaded."""
        if isinstance(self.pin, versions.AsOf):
            return None
        cached = self.lake.cached_plan(self.name, self.pin)
        if cached is None or self.identity.table_uuid not in ("", cached[0].version.table_uuid):
            return None
        self._tie(cached[0].version.table_uuid)
        return cached

    def _facts(self) -> TableFacts | None:
        """Returns the versions and tags without PyIceberg; None if the table must be loaded."""
        facts = table_listing.table_facts(self.lake, self.name)
        return None if facts is None or self.identity.table_uuid not in ("", facts.table_uuid) else facts

    def _tied_facts(self) -> TableFacts | None:
        facts = self._facts()
        if facts is not None:
            self._tie(facts.table_uuid)
        return facts

    def _resolved(self) -> tuple[Table, DatasetVersion]:
        table = self._same()
        version = versions.resolve(table, self.pin)
        self._tie(table.metadata.table_uuid)
        return table, version

    def _same(self) -> Table:
        table = self.lake.table(self.name)
        if self.identity.table_uuid not in ("", str(table.metadata.table_uuid)):
            raise table_identity.recreated_error(self.lake, self.name, self.identity.table_uuid)
        return table

    def _tie(self, table_uuid: UUID | str) -> None:
        if self.pin is not None:
            self.identity.table_uuid = str(table_uuid)

    def _source(self, table: Table, version: DatasetVersion, since: Since | None = None) -> IcebergSource:
        # The newest rows come with the columns of now, a version with its own.
        columns = table.metadata.current_schema_id if self.pin is None else None
        key = None
        if since is None and not isinstance(self.pin, versions.AsOf):
            key = plan_cache.PlanKey(table.metadata_location, self.pin)
        return iceberg_source.IcebergSource.of(self.lake, self.name, table, version, since, columns, key)
