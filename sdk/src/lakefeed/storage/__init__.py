"""Where the bytes of files live: content-addressed, verified, safe between processes."""

from __future__ import annotations

from lakefeed.storage.blobs import BlobStore
from lakefeed.storage.saving import Blob, Packing, Saving

__all__ = ["Blob", "BlobStore", "Packing", "Saving"]
