"""File formats: one file each, one line here."""

from __future__ import annotations

from fsspec.utils import compressions

from lakefeed.errors import FormatError, listed
from lakefeed.formats.base import FilePart, Format, opened, stamp
from lakefeed.formats.csv import Csv
from lakefeed.formats.jsonl import JsonLines
from lakefeed.formats.parquet import Parquet

__all__ = ["FORMATS", "FilePart", "Format", "format_of", "opened", "stamp"]

FORMATS: dict[str, Format] = {form.name: form for form in (Csv(), JsonLines(), Parquet())}
"""Add a format: write its file, add it here."""


def format_of(url: str) -> Format:
    """The format that a file's suffix (below a compression suffix) names.

    Raises:
        FormatError: no format has that suffix; the known ones are listed.

    Example:
        >>> format_of("rows.csv.gz").name
        'csv'
    """
    name = url.split("::")[0].rsplit("/", 1)[-1].lower()
    if url.startswith(("http://", "https://")):
        name = name.split("?")[0]
    stem, _, last = name.rpartition(".")
    if last in compressions:
        name = stem
    for form in FORMATS.values():
        if name.endswith(form.suffixes):
            return form
    known = sorted(suffix for form in FORMATS.values() for suffix in form.suffixes)
    raise FormatError(f"no format is known for {url!r}; the known suffixes are {listed(known, most=50)}")
