"""All media types. A new one is a file of its own and a line here."""

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


def media_type(name: str) -> MediaType:
    """The media type of that name.

    Raises:
        InvalidArgumentError: there is none.

    Example:
        >>> media_type("image").default_mode
        'bytes'
    """
    found = MEDIA.get(name)
    if found is None:
        raise InvalidArgumentError(f"{name!r} is no media type; there are {quoted_list(MEDIA)}")
    return found
