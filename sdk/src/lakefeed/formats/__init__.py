"""File formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakefeed._lazy import lazy_attributes

if TYPE_CHECKING:
    from lakefeed.formats.csv_format import Csv
    from lakefeed.formats.file_format import FilePart, Format, Streamed, file_stamp, open_url
    from lakefeed.formats.format_registry import FORMATS, format_by_name, format_of

__all__ = [
    "FORMATS",
    "Csv",
    "FilePart",
    "Format",
    "Streamed",
    "file_stamp",
    "format_by_name",
    "format_of",
    "open_url",
]

if not TYPE_CHECKING:  # else a type checker would take any name
    __getattr__ = lazy_attributes(
        __name__,
        {
            "file_format": ("FilePart", "Format", "Streamed", "open_url", "file_stamp"),
            "format_registry": ("FORMATS", "format_by_name", "format_of"),
            "csv_format": ("Csv",),
        },
    )
