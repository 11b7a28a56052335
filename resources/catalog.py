"""The catalog as a Dagster resource."""

from __future__ import annotations

from typing import Any

from dagster import ConfigurableResource

from lakefeed.catalog import DatasetVersion, Lake, list_versions


class CatalogResource(ConfigurableResource[Any]):
    """The lake of the settings in force (environment, ``lakefeed.toml``); what runs where is configured there alone."""

    def lake(self) -> Lake:
        return Lake.current()

    def versions(self, name: str) -> list[DatasetVersion]:
        """The versions of a dataset, oldest first; none if there is no such dataset (yet)."""
        lake = self.lake()
        return list_versions(lake.table(name))[::-1] if lake.exists(name) else []
