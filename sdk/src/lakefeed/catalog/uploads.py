"""Cleanup of multipart uploads of table files whose writing failed.

pyarrow's S3 client cannot abort an upload, so this uses s3fs with the same properties.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from urllib.parse import urlsplit

from pyiceberg.io import FileIO

from lakefeed.storage.disk.disk_errors import cleanup_errors
from lakefeed.storage.remote.multipart import abort_multipart

logger = logging.getLogger(__name__)

SCHEMES = ("s3", "s3a", "s3n")


def abort_uploads(io: FileIO, location: str) -> None:
    """Aborts every unfinished upload of this object, which only the caller writes. Raises nothing."""
    parts = urlsplit(location)
    if parts.scheme not in SCHEMES:
        return
    if find_spec("s3fs") is None:
        logger.warning(
            "parts of %s may be left in the store: pip install 'lakefeed[s3]', or add a bucket rule that aborts "
            "incomplete multipart uploads",
            location,
        )
        return
    from pyiceberg.io.fsspec import FsspecFileIO

    with cleanup_errors(location):
        own = io if isinstance(io, FsspecFileIO) else FsspecFileIO(io.properties)
        abort_multipart(own.get_fs(parts.scheme, parts.netloc), parts.netloc, parts.path.lstrip("/"))
