"""The registry of file formats."""

from __future__ import annotations

from typing import Any

from lakefeed._plugins import Plugins, instance_with
from lakefeed.errors import FormatError, InvalidArgumentError, quoted_list
from lakefeed.formats.arrow_format import Arrow
from lakefeed.formats.csv_format import Csv
from lakefeed.formats.file_format import Format
from lakefeed.formats.jsonl_format import JsonLines
from lakefeed.formats.parquet_format import Parquet
from lakefeed.storage.archives.url_chains import COMPRESSIONS, parse_chain
from lakefeed.storage.urls import display_url


def _validate(name: str, part: Any) -> Format:
    form = instance_with(name, part, FORMAT_ATTRIBUTES)
    if not isinstance(form.suffixes, tuple) or not all(isinstance(suffix, str) for suffix in form.suffixes):
        raise TypeError(f"suffixes must be a tuple of text, got {form.suffixes!r:.80}")
    return form  # type: ignore[no-any-return]  # it has what a format has


FORMAT_ATTRIBUTES = ("name", "suffixes", "has_row_counts", "addressable", "schema", "check", "parts", "read")
FORMATS: Plugins[Format] = Plugins(
    "formats", {each.name: each for each in (Arrow(), Csv(), JsonLines(), Parquet())}, _validate
)
"""Formats by name, with those of other packages. A new format is added here."""


def format_by_name(name: Any) -> Format:
    """Returns the format with a name.

    Raises:
        FormatError: the name is unknown; the message lists the known ones.
    """
    if not isinstance(name, str) or name not in FORMATS:
        raise FormatError(f"unknown format {name!r}; choose from {quoted_list(FORMATS)}")
    return FORMATS[name]


def format_of(url: str) -> Format:
    """Returns the format of a file by its suffix. A compression suffix is skipped.

    Raises:
        FormatError: no format has that suffix; the message lists the known ones.
        InvalidArgumentError: the file is an archive and the URL does not name its members.

    Example:
        >>> format_of("rows.csv.gz").name
        'csv'
    """
    name = parse_chain(url).name.lower()
    stem, dot, suffix = name.rpartition(".")
    if dot + suffix in COMPRESSIONS:
        name = stem
    for _, entry in FORMATS.usable():
        if name.endswith(entry.suffixes):
            return entry
    if name.endswith((".zip", ".tar", ".tgz")):
        kind = "zip" if name.endswith(".zip") else "tar"
        raise InvalidArgumentError(
            f"{display_url(url)} is an archive; name the files to read in it, such as {display_url(f'{kind}://*.csv::{url}')}"
        )
    suffixes = sorted(suffix for _, entry in FORMATS.usable() for suffix in entry.suffixes)
    raise FormatError(
        f"no format is known for {display_url(url)}; the known suffixes are {quoted_list(suffixes, most=50)}. "
        f"If the suffix does not name the format, format= names it: {quoted_list(FORMATS)}"
    )
