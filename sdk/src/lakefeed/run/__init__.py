"""Running plans."""

from typing import TYPE_CHECKING

from lakefeed._lazy import lazy_attributes

if TYPE_CHECKING:
    from lakefeed.run.local_runner import LocalRunner

__all__ = ["LocalRunner"]

if not TYPE_CHECKING:  # else a type checker would take any name
    __getattr__ = lazy_attributes(__name__, {"local_runner": ("LocalRunner",)})
