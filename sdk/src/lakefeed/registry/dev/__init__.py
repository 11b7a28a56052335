"""Helpers for tests and examples."""

from lakefeed._lazy import lazy_attributes

__all__ = ["datasets"]

__getattr__ = lazy_attributes(__name__)
