"""Keyed tables: rows that are unique by key, columns that are written apart, scans in the order of the key."""

from typing import TYPE_CHECKING

from lakefeed._lazy import lazy_attributes

if TYPE_CHECKING:
    from lakefeed.keyed.connection import Client, Iceberg, connect
    from lakefeed.keyed.enrichment import Enrichment
    from lakefeed.keyed.key_ranges import KeyRange, Shard
    from lakefeed.keyed.key_space_index import KeySpaceIndex
    from lakefeed.keyed.keyed_scan import Scan
    from lakefeed.keyed.keyed_table import Table
    from lakefeed.keyed.projects import Project
    from lakefeed.keyed.scan_loader import ScanLoader, ShuffleConfig
    from lakefeed.keyed.search_index import SearchIndex
    from lakefeed.keyed.table_snapshot import Snapshot
    from lakefeed.keyed.text_index import TextIndex
    from lakefeed.keyed.transaction import Transaction
    from lakefeed.keyed.transaction_operations import Operation
    from lakefeed.keyed.vector_index import VectorIndex

__all__ = [
    "Client",
    "Enrichment",
    "Iceberg",
    "KeyRange",
    "KeySpaceIndex",
    "Operation",
    "Project",
    "Scan",
    "ScanLoader",
    "SearchIndex",
    "Shard",
    "ShuffleConfig",
    "Snapshot",
    "Table",
    "TextIndex",
    "Transaction",
    "VectorIndex",
    "connect",
]

if not TYPE_CHECKING:  # else a type checker would take any name
    __getattr__ = lazy_attributes(
        __name__,
        {
            "projects": ("Project",),
            "connection": ("Client", "Iceberg", "connect"),
            "enrichment": ("Enrichment",),
            "key_ranges": ("KeyRange", "Shard"),
            "key_space_index": ("KeySpaceIndex",),
            "keyed_scan": ("Scan",),
            "keyed_table": ("Table",),
            "scan_loader": ("ScanLoader", "ShuffleConfig"),
            "transaction_operations": ("Operation",),
            "search_index": ("SearchIndex",),
            "table_snapshot": ("Snapshot",),
            "text_index": ("TextIndex",),
            "transaction": ("Transaction",),
            "vector_index": ("VectorIndex",),
        },
    )
