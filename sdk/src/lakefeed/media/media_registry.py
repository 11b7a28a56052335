"""The registry of media types."""

from __future__ import annotations

from lakefeed.errors import InvalidArgumentError, quoted_list
from lakefeed.media.audio import AUDIO
from lakefeed.media.file import FILE
from lakefeed.media.image import IMAGE
from lakefeed.media.mcap import MCAP_FILE
from lakefeed.media.media_type import MediaType
from lakefeed.media.model3d import MODEL_3D
from lakefeed.media.rrd import RRD_FILE
from lakefeed.media.video import VIDEO

MEDIA: dict[str, MediaType] = {
    media.name: media
    for media in (
        FILE,
        IMAGE,
        VIDEO,
        AUDIO,
        MODEL_3D,
        MCAP_FILE,
        RRD_FILE,
    )
}
"""Media types by name. A new media type is added here."""


def media_type(name: str) -> MediaType:
    """Returns the media type with a name.

    Raises:
        InvalidArgumentError: the name is unknown.

    Example:
        >>> media_type("image").default_mode
        'bytes'
    """
    media = MEDIA.get(name)
    if media is None:
        raise InvalidArgumentError(f"unknown media type {name!r}; choose from {quoted_list(MEDIA)}")
    return media
