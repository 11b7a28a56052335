"""The operations of a plan, one file each.

``__all__`` lists the operations. The functions next to them check arguments.
"""

from typing import TYPE_CHECKING

from lakefeed._lazy import lazy_attributes

if TYPE_CHECKING:
    from lakefeed.ops.add_file_columns import FileColumns
    from lakefeed.ops.batch import Batch
    from lakefeed.ops.concatenate import Concatenate
    from lakefeed.ops.conform import Conform
    from lakefeed.ops.filter import Filter
    from lakefeed.ops.filter_rows import FilterRows
    from lakefeed.ops.interleave import Interleave
    from lakefeed.ops.interleave import check_probabilities as check_probabilities
    from lakefeed.ops.join import Join
    from lakefeed.ops.load_files import LoadFiles, SkippingLoadFiles
    from lakefeed.ops.map import Map, SkippingMap
    from lakefeed.ops.map_batches import MapBatches
    from lakefeed.ops.project import Project
    from lakefeed.ops.query import Query
    from lakefeed.ops.query import check_tables as check_tables
    from lakefeed.ops.rename import Rename
    from lakefeed.ops.repeat import Repeat
    from lakefeed.ops.sample import Sample
    from lakefeed.ops.scan import Scan
    from lakefeed.ops.shuffle import Shuffle
    from lakefeed.ops.shuffle import with_epoch as with_epoch
    from lakefeed.ops.slice import Slice
    from lakefeed.ops.sort import Sort
    from lakefeed.ops.split import SplitByKey, SplitByPlace
    from lakefeed.ops.split import split_sides as split_sides
    from lakefeed.ops.store_files import StoreFiles
    from lakefeed.ops.stride import Stride
    from lakefeed.ops.stride import shard_range as shard_range
    from lakefeed.ops.take import Take
    from lakefeed.ops.with_column import WithColumn

__all__ = [
    "Batch",
    "Concatenate",
    "Conform",
    "FileColumns",
    "Filter",
    "FilterRows",
    "Interleave",
    "Join",
    "LoadFiles",
    "Map",
    "MapBatches",
    "Project",
    "Query",
    "Rename",
    "Repeat",
    "Sample",
    "Scan",
    "Shuffle",
    "SkippingLoadFiles",
    "SkippingMap",
    "Slice",
    "Sort",
    "SplitByKey",
    "SplitByPlace",
    "StoreFiles",
    "Stride",
    "Take",
    "WithColumn",
]

if not TYPE_CHECKING:  # else a type checker would take any name
    __getattr__ = lazy_attributes(
        __name__,
        {
            "batch": ("Batch",),
            "concatenate": ("Concatenate",),
            "conform": ("Conform",),
            "add_file_columns": ("FileColumns",),
            "filter": ("Filter",),
            "filter_rows": ("FilterRows",),
            "interleave": ("Interleave", "check_probabilities"),
            "join": ("Join",),
            "load_files": ("LoadFiles", "SkippingLoadFiles"),
            "map": ("Map", "SkippingMap"),
            "map_batches": ("MapBatches",),
            "project": ("Project",),
            "query": ("Query", "check_tables"),
            "rename": ("Rename",),
            "repeat": ("Repeat",),
            "sample": ("Sample",),
            "scan": ("Scan",),
            "shuffle": ("Shuffle", "with_epoch"),
            "slice": ("Slice",),
            "sort": ("Sort",),
            "split": ("SplitByKey", "SplitByPlace", "split_sides"),
            "store_files": ("StoreFiles",),
            "stride": ("Stride", "shard_range"),
            "take": ("Take",),
            "with_column": ("WithColumn",),
        },
    )
