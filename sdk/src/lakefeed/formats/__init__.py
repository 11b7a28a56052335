"""File formats: one file each, and one line in `by_name`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakefeed._lazy import lazy_attributes

if TYPE_CHECKING:
    from lakefeed.formats.base import FilePart, Format, Streamed, opened, stamp
    from lakefeed.formats.by_name import FORMATS, format_named, format_of
    from lakefeed.formats.csv import Csv

__all__ = ["FORMATS", "Csv", "FilePart", "Format", "Streamed", "format_named", "format_of", "opened", "stamp"]

if not TYPE_CHECKING:  # else a type checker would take any name
    __getattr__ = lazy_attributes(
        __name__,
        {
            "base": ("FilePart", "Format", "Streamed", "opened", "stamp"),
            "by_name": ("FORMATS", "format_named", "format_of"),
            "csv": ("Csv",),
        },
    )
