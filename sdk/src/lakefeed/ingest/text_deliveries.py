"""Deliveries that are text files, which are read row by row."""

from __future__ import annotations

from lakefeed.dataset import Dataset, plan_of
from lakefeed.formats.csv_format import Csv
from lakefeed.formats.format_registry import FORMATS
from lakefeed.ingest.csv_rows import CsvRows
from lakefeed.ingest.json_rows import JsonRows
from lakefeed.ingest.text_rows import TextRows
from lakefeed.ops import Scan
from lakefeed.sources.file_source import FilesSource, create_file_source


def text_rows(rows: Dataset | str) -> TextRows | None:
    """Returns the rows of one CSV or JSON lines file; None for other formats and for rows of operations.

    Args:
        rows: the rows of a file, or its path or URL.

    Raises:
        MissingFileError: the file does not exist.
        FormatError: no format has the suffix of the file.
    """
    if isinstance(rows, str):
        source: object = create_file_source(rows)
    else:
        plan = plan_of(rows, "text_rows")
        source = plan.source if isinstance(plan, Scan) else None
    if not isinstance(source, FilesSource) or len(source.urls) != 1:
        return None
    kind = FORMATS[source.format_name]
    return CsvRows(source) if isinstance(kind, Csv) else JsonRows(source) if kind.name == "jsonl" else None
