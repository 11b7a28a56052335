"""Storage of the bytes of files: content-addressed, verified, safe between processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakefeed._lazy import lazy_attributes

if TYPE_CHECKING:
    from lakefeed.storage.blobs.blob_store import BlobStore
    from lakefeed.storage.blobs.blob_writer import Blob, BlobWriter, Packing

__all__ = ["Blob", "BlobStore", "BlobWriter", "Packing"]

if not TYPE_CHECKING:  # else a type checker would take any name
    __getattr__ = lazy_attributes(
        __name__, {"blobs.blob_store": ("BlobStore",), "blobs.blob_writer": ("Blob", "Packing", "BlobWriter")}
    )
