"""File columns: media types, handles, and how files are stored and loaded.

A file column is a struct column whose field metadata has the key ``lakefeed.type``. ``MEDIA`` lists the media types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakefeed._lazy import lazy_attributes
from lakefeed.media.audio import Audio
from lakefeed.media.file import File
from lakefeed.media.file_column_types import (
    check_column_types,
    column_type,
    default_mode,
    loaded_type,
    new_column,
    normalize_types,
    typed_columns,
    typed_schema,
)
from lakefeed.media.handles import Handle
from lakefeed.media.image import Image
from lakefeed.media.infer_columns import infer_column_types, may_hold_files
from lakefeed.media.mcap import MCAP
from lakefeed.media.media_records import handles
from lakefeed.media.media_registry import MEDIA, media_type
from lakefeed.media.media_type import TYPE_KEY, MediaType
from lakefeed.media.model3d import Model3D
from lakefeed.media.rrd import RRD
from lakefeed.media.video import Video

if TYPE_CHECKING:
    from lakefeed.media.probes import Probes
    from lakefeed.media.store_columns import store_column

__all__ = [
    "MCAP",
    "MEDIA",
    "RRD",
    "TYPE_KEY",
    "Audio",
    "File",
    "Handle",
    "Image",
    "MediaType",
    "Model3D",
    "Probes",
    "Video",
    "check_column_types",
    "column_type",
    "default_mode",
    "handles",
    "infer_column_types",
    "loaded_type",
    "may_hold_files",
    "media_type",
    "new_column",
    "normalize_types",
    "store_column",
    "typed_columns",
    "typed_schema",
]

if not TYPE_CHECKING:  # else a type checker would take any name
    __getattr__ = lazy_attributes(__name__, {"probes": ("Probes",), "store_columns": ("store_column",)})
