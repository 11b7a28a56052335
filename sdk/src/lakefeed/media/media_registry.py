"""The registry of media types."""

from __future__ import annotations

from typing import Any

from lakefeed._plugins import Plugins, instance_with
from lakefeed.errors import InvalidArgumentError, quoted_list
from lakefeed.media.audio import AUDIO
from lakefeed.media.file import FILE
from lakefeed.media.image import IMAGE
from lakefeed.media.mcap import MCAP_FILE
from lakefeed.media.media_type import MediaType
from lakefeed.media.model3d import MODEL_3D
from lakefeed.media.rrd import RRD_FILE
from lakefeed.media.video import VIDEO


def _validate(name: str, part: Any) -> MediaType:
    if not isinstance(part, MediaType):
        raise TypeError(f"{part!r:.80} must be a MediaType")
    media: MediaType = instance_with(name, part, ())
    return media


MEDIA: Plugins[MediaType] = Plugins(
    "media_types",
    {media.name: media for media in (FILE, IMAGE, VIDEO, AUDIO, MODEL_3D, MCAP_FILE, RRD_FILE)},
    _validate,
)
"""Media types by name, with those of other packages. A new media type is added here."""


def media_type(name: str) -> MediaType:
    """Returns the media type with a name.

    Raises:
        InvalidArgumentError: the name is unknown.

    Example:
        >>> media_type("image").default_mode
        'bytes'
    """
    if name not in MEDIA:
        raise InvalidArgumentError(f"unknown media type {name!r}; choose from {quoted_list(MEDIA)}")
    return MEDIA[name]
