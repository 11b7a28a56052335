"""The formats by name and by suffix: one line each."""

from __future__ import annotations

from typing import Any

from lakefeed.errors import FormatError, InvalidArgumentError, quoted_list
from lakefeed.formats.arrow_format import Arrow
from lakefeed.formats.csv_format import Csv
from lakefeed.formats.file_format import Format
from lakefeed.formats.jsonl_format import JsonLines
from lakefeed.formats.parquet_format import Parquet
from lakefeed.storage.archives.url_chains import COMPRESSIONS, parse_chain
from lakefeed.storage.urls import shown

FORMATS: dict[str, Format] = {form.name: form for form in (Arrow(), Csv(), JsonLines(), Parquet())}
"""Add a format: write its file, add it here."""


def format_by_name(name: Any) -> Format:
    """The format of that name.

    Raises:
        FormatError: there is none; the known ones are listed.
    """
    if not isinstance(name, str) or name not in FORMATS:
        raise FormatError(f"no format is called {name!r}; there are {quoted_list(FORMATS)}")
    return FORMATS[name]


def format_of(url: str) -> Format:
    """The format that a file's suffix (below a compression suffix) names.

    Raises:
        FormatError: no format has that suffix; the known ones are listed.

    Example:
        >>> format_of("rows.csv.gz").name
        'csv'
    """
    name = parse_chain(url).name.lower()
    stem, dot, last = name.rpartition(".")
    if dot + last in COMPRESSIONS:
        name = stem
    for form in FORMATS.values():
        if name.endswith(form.suffixes):
            return form
    if name.endswith((".zip", ".tar", ".tgz")):
        kind = "zip" if name.endswith(".zip") else "tar"
        raise InvalidArgumentError(
            f"{shown(url)} is an archive; say what is wanted of it, such as {shown(f'{kind}://*.csv::{url}')}"
        )
    known = sorted(suffix for form in FORMATS.values() for suffix in form.suffixes)
    raise FormatError(
        f"no format is known for {shown(url)}; the known suffixes are {quoted_list(known, most=50)}. "
        f"format= names it where the suffix does not: {quoted_list(FORMATS)}"
    )
