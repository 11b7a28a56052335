"""The media type for MCAP recordings. Durations need the library ``mcap`` (the extra ``mcap``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lakefeed.media.probing.mcap_probe import probe_mcap
from lakefeed.media.timed_media import TimedHandle, recording_type

_CONTENT_TYPE = "application/x-mcap"
_MAGIC = b"\x89MCAP0\r\n"


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class MCAP(TimedHandle):
    """An MCAP recording. Pass ``open()`` to ``mcap.reader.make_reader``, or ``path()`` to a library that reads a file.

    Attributes:
        duration_seconds: the time from the first message to the last; None if the file has no summary statistics.

    Example:
        >>> MCAP("drive.mcap", duration_seconds=12.5)
        MCAP('drive.mcap', 12.5 s)
    """

    media: ClassVar[str] = "mcap"


def sniff(head: bytes) -> str | None:
    """Returns the content type if ``head`` begins an MCAP file, else None."""
    return _CONTENT_TYPE if head.startswith(_MAGIC) else None


MCAP_FILE = recording_type(MCAP, _CONTENT_TYPE, sniff, probe_mcap)
