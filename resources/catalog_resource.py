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
    """The table of a dataset and its versions, oldest first."""

    table_uuid: str
    versions: tuple[DatasetVersion, ...]

    @property
    def numbers(self) -> list[int]:
        """The version numbers, oldest first."""
        return [version.version for version in self.versions]


class CatalogResource(ConfigurableResource[Any]):
    """The lake of the current settings (environment, ``lakefeed.toml``)."""

    def lake(self) -> Lake:
        """Returns the lake."""
        return Lake.current()

    def heads(self) -> dict[str, str]:
        """Returns for every dataset a text that changes with it. It makes one query."""
        return self.lake().heads()

    def state(self, name: str) -> TableState | None:
        """Returns the state of a dataset; None if it does not exist."""
        try:
            table = self.lake().table(name)
        except DatasetNotFoundError:
            return None
        return TableState(str(table.metadata.table_uuid), tuple(reversed(list_versions(table))))

    def last_deleted(self, name: str, table_uuid: str) -> int:
        """Returns the last version number of the deleted datasets of this name before this table; 0 without any."""
        return last_number(self.lake().deletions(name, table_uuid))
