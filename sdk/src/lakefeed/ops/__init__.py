"""One file an operation."""

from lakefeed.ops.file_columns import FileColumns
from lakefeed.ops.filter import Filter
from lakefeed.ops.filter_rows import FilterRows
from lakefeed.ops.load_files import LoadFiles
from lakefeed.ops.map import Map
from lakefeed.ops.map_batches import MapBatches
from lakefeed.ops.project import Project
from lakefeed.ops.scan import Scan
from lakefeed.ops.shuffle import Shuffle
from lakefeed.ops.slice import Slice
from lakefeed.ops.split import SplitByKey, SplitByPlace

__all__ = [
    "FileColumns",
    "Filter",
    "FilterRows",
    "LoadFiles",
    "Map",
    "MapBatches",
    "Project",
    "Scan",
    "Shuffle",
    "Slice",
    "SplitByKey",
    "SplitByPlace",
]
