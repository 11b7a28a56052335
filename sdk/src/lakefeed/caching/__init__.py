"""Rows kept on local disk: mirrors of snapshots, and outputs of whole plans."""

from lakefeed.caching.arrow_folder import map_rows
from lakefeed.caching.cached_rows import cache_rows

__all__ = ["cache_rows", "map_rows"]
