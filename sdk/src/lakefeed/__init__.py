"""lakefeed: versioned datasets in an Apache Iceberg lake that feed training."""

import atexit

# PyIceberg needs it, and it cannot be imported any more once the main thread has ended.
import concurrent.futures.thread  # noqa: F401
import sys
from typing import TYPE_CHECKING

from lakefeed import errors
from lakefeed._lazy import lazy_attributes

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lakefeed._sparse import sparse_field
    from lakefeed.arrays.mapped_cells import MappedCells, map_anndata
    from lakefeed.catalog.action import Fence, Provenance
    from lakefeed.catalog.schema_changes import SchemaChanges
    from lakefeed.catalog.versions import DatasetVersion
    from lakefeed.client import get_dataset, list_datasets
    from lakefeed.combine import concatenate, interleave
    from lakefeed.config import Settings
    from lakefeed.dataset import AddedRows, Dataset, MappedDataset, RemovedRows
    from lakefeed.expr.terms import Term, col, lit
    from lakefeed.garbage import GarbageReport, collect_garbage
    from lakefeed.keyed.connection import connect
    from lakefeed.keyed.keyed_table import Table
    from lakefeed.keyed.user_functions import fetch, udf
    from lakefeed.loaders.world import World
    from lakefeed.media import MCAP, RRD, Audio, File, Image, Model3D, Video
    from lakefeed.provenance.lineage_entry import lineage
    from lakefeed.provenance.lineage_graph import Lineage
    from lakefeed.provenance.tracked_run import Run, track
    from lakefeed.run.version_changes import Changes
    from lakefeed.trees.file_tree import FileTree

__all__ = [  # noqa: RUF022 - as sorted() sorts, whatever is written in capitals
    "AddedRows",
    "Audio",
    "Changes",
    "Dataset",
    "DatasetVersion",
    "Fence",
    "File",
    "FileTree",
    "GarbageReport",
    "Image",
    "Lineage",
    "MCAP",
    "MappedCells",
    "MappedDataset",
    "Model3D",
    "Provenance",
    "RRD",
    "RemovedRows",
    "Run",
    "SchemaChanges",
    "Settings",
    "Table",
    "Term",
    "Video",
    "World",
    "col",
    "collect_garbage",
    "concatenate",
    "connect",
    "errors",
    "fetch",
    "get_dataset",
    "interleave",
    "lineage",
    "list_datasets",
    "lit",
    "map_anndata",
    "sparse_field",
    "track",
    "udf",
]

if not TYPE_CHECKING:  # else a type checker would take any name
    __getattr__ = lazy_attributes(
        __name__,
        {
            "_sparse": ("sparse_field",),
            "arrays.mapped_cells": ("MappedCells", "map_anndata"),
            "catalog.action": ("Fence", "Provenance"),
            "catalog.schema_changes": ("SchemaChanges",),
            "catalog.versions": ("DatasetVersion",),
            "client": ("get_dataset", "list_datasets"),
            "combine": ("concatenate", "interleave"),
            "config": ("Settings",),
            "dataset": ("AddedRows", "Dataset", "MappedDataset", "RemovedRows"),
            "expr.terms": ("Term", "col", "lit"),
            "garbage": ("GarbageReport", "collect_garbage"),
            "keyed.connection": ("connect",),
            "keyed.keyed_table": ("Table",),
            "keyed.user_functions": ("fetch", "udf"),
            "loaders.world": ("World",),
            "media": ("Audio", "File", "Image", "MCAP", "Model3D", "RRD", "Video"),
            "provenance.lineage_entry": ("lineage",),
            "provenance.lineage_graph": ("Lineage",),
            "provenance.tracked_run": ("Run", "track"),
            "run.version_changes": ("Changes",),
            "trees.file_tree": ("FileTree",),
        },
    )


def _close_unfinished() -> None:
    if prefetch := sys.modules.get("lakefeed.run.prefetch"):
        prefetch.close_unfinished()


atexit.register(_close_unfinished)  # at once: handlers that are registered later run before it, and may read on


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("_"))})
