"""Where the bytes of files live: content-addressed, verified, safe between processes."""

from __future__ import annotations

from lakefeed.storage.blobs import Blob, BlobStore

__all__ = ["Blob", "BlobStore"]
