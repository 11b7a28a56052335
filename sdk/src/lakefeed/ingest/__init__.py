"""Ingestion: appends rows from files, databases and hubs to a dataset, each exactly once.

A *ledger*, an immutable file in the blob store, records the ingested files. A *watermark* records how far a query was
read. The dataset points at them with a fence, a table property that moves in the same commit as the rows. So rows and
their record become visible together or not at all. Killed, repeated and concurrent runs neither lose nor repeat a file
or a row.
"""

from typing import TYPE_CHECKING

from lakefeed._deprecated import deprecated_names
from lakefeed.ingest.delivery_rows import read_file
from lakefeed.ingest.file_ingestion import Arrivals, FileSource, arrivals
from lakefeed.ingest.file_listings import FolderSource, ManifestSource, WebSource
from lakefeed.ingest.file_rows import FileAsRow
from lakefeed.ingest.huggingface_ingestion import HuggingFaceSource
from lakefeed.ingest.ingestion_source import IngestResult, Source, ingest
from lakefeed.ingest.ledger import ListedFile
from lakefeed.ingest.quarantine import QUARANTINE_SCHEMA, quarantine_of
from lakefeed.ingest.query_ingestion import QuerySource

__all__ = [
    "QUARANTINE_SCHEMA",
    "Arrivals",
    "FileAsRow",
    "FileSource",
    "FolderSource",
    "HuggingFaceSource",
    "IngestResult",
    "ListedFile",
    "ManifestSource",
    "QuerySource",
    "Source",
    "WebSource",
    "arrivals",
    "ingest",
    "quarantine_of",
    "read_file",
]

if not TYPE_CHECKING:  # else a type checker would take any name
    __getattr__ = deprecated_names(__name__, {"Landed": "ListedFile"})
