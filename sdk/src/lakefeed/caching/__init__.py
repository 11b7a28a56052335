"""Rows kept on local disk: mirrors of snapshots, and outputs of whole plans."""

from lakefeed.caching.cache import cached

__all__ = ["cached"]
