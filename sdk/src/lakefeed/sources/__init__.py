"""Where rows come from: one file a source."""

from lakefeed._lazy import lazy_attributes

__getattr__ = lazy_attributes(__name__)
