"""Rows kept on local disk: mirrors of snapshots, and outputs of whole plans."""

from lakefeed.caching.cache import cached
from lakefeed.caching.mapping import mapped

__all__ = ["cached", "mapped"]
