"""The media type for Rerun recordings. Their durations are read without Rerun's library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lakefeed.media.probing.rrd_probe import MAGIC, probe_rrd
from lakefeed.media.timed_media import TimedHandle, recording_type

_CONTENT_TYPE = "application/x-rerun"


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class RRD(TimedHandle):
    """A Rerun recording. Pass ``path()`` to Rerun's library or viewer.

    Attributes:
        duration_seconds: the length of the longest timeline; None if the file has no index (old or never closed).

    Example:
        >>> RRD("run.rrd", duration_seconds=12.5)
        RRD('run.rrd', 12.5 s)
    """

    media: ClassVar[str] = "rrd"


def sniff(head: bytes) -> str | None:
    """Returns the content type if ``head`` begins a Rerun recording (``RRF`` and a digit), else None."""
    return _CONTENT_TYPE if head.startswith(MAGIC) and head[3:4].isdigit() else None


RRD_FILE = recording_type(RRD, _CONTENT_TYPE, sniff, probe_rrd)
