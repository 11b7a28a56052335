"""The catalog as a Dagster resource."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dagster import ConfigurableResource

from lakefeed.catalog import DatasetVersion, Lake, list_versions
from lakefeed.catalog.tombstones import last_number
from lakefeed.errors import DatasetNotFoundError


@dataclass(frozen=True)
class TableState:
    """A dataset as it is now: which table, and its versions, oldest first."""

    table_uuid: str
    versions: tuple[DatasetVersion, ...]

    @property
    def numbers(self) -> list[int]:
        """The version numbers, oldest first."""
        return [version.version for version in self.versions]


class CatalogResource(ConfigurableResource[Any]):
    """The lake of the settings in force (environment, ``lakefeed.toml``); what runs where is configured there alone."""

    def lake(self) -> Lake:
        return Lake.current()

    def heads(self) -> dict[str, str]:
        """For every dataset a text that changes when it does; one query."""
        return self.lake().heads()

    def state(self, name: str) -> TableState | None:
        """A dataset as it is now; None if there is none of that name (any more)."""
        try:
            table = self.lake().table(name)
        except DatasetNotFoundError:
            return None
        return TableState(str(table.metadata.table_uuid), tuple(reversed(list_versions(table))))

    def last_deleted(self, name: str, table_uuid: str) -> int:
        """The last number of the datasets of that name that were deleted before this table; 0 where there are none."""
        return last_number(self.lake().deletions(name, table_uuid))
