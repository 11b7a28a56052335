"""The content-addressed blob store as a Dagster resource."""

from __future__ import annotations

from typing import Any

from dagster import ConfigurableResource

from lakefeed.catalog import Lake
from lakefeed.storage.blobs.blob_store import BlobStore


class BlobStoreResource(ConfigurableResource[Any]):
    """The blob store of the current settings."""

    def store(self) -> BlobStore:
        """Returns the blob store."""
        return Lake.current().blobs
