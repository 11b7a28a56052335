"""Loaders for PyTorch."""

from typing import TYPE_CHECKING

from lakefeed._lazy import lazy_attributes

if not TYPE_CHECKING:  # else a type checker would take any name
    __getattr__ = lazy_attributes(__name__)
