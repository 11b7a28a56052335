"""Rows kept on local disk: mirrors of snapshots, and outputs of whole plans."""

from lakefeed.caching.cache_rows import cache_rows
from lakefeed.caching.map_rows import map_rows

__all__ = ["cache_rows", "map_rows"]
