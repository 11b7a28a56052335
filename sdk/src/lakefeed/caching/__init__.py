"""Rows kept on local disk: mirrors of snapshots, and outputs of whole plans."""

from lakefeed.caching.cache_rows import cached
from lakefeed.caching.map_rows import mapped

__all__ = ["cached", "mapped"]
