"""Recordings of robots in MCAP; how long they are, through the library ``mcap`` (the extra ``mcap``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lakefeed.media.probing.mcap_probe import probe_mcap
from lakefeed.media.timed_media import TimedHandle, recording_type

_CONTENT_TYPE = "application/x-mcap"
_MAGIC = b"\x89MCAP0\r\n"


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class MCAP(TimedHandle):
    """A recording in MCAP; give ``open()`` to ``mcap.reader.make_reader``, or ``path()`` to what wants a file.

    Attributes:
        duration_seconds: between the first message and the last; None if the file's summary does not tell.

    Example:
        >>> MCAP("drive.mcap", duration_seconds=12.5)
        MCAP('drive.mcap', 12.5 s)
    """

    media: ClassVar[str] = "mcap"


def sniff(head: bytes) -> str | None:
    """The content type if ``head`` begins an MCAP file; None otherwise."""
    return _CONTENT_TYPE if head.startswith(_MAGIC) else None


MCAP_FILE = recording_type(MCAP, _CONTENT_TYPE, sniff, probe_mcap)
