"""Recordings of robots in MCAP; how long they are, through the library ``mcap`` (the extra ``mcap``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from lakefeed.media.base import MediaType
from lakefeed.media.handles import Handle
from lakefeed.media.probing.mcap import probe_mcap

_CONTENT_TYPE = "application/x-mcap"
_MAGIC = b"\x89MCAP0\r\n"


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class MCAP(Handle):
    """A recording in MCAP; give ``open()`` to ``mcap.reader.make_reader``, or ``path()`` to what wants a file.

    Attributes:
        duration_seconds: between the first message and the last; None if the file's summary does not tell.

    Example:
        >>> MCAP("drive.mcap", duration_seconds=12.5)
        MCAP('drive.mcap', 12.5 s)
    """

    media: ClassVar[str] = "mcap"

    duration_seconds: float | None = None

    def _details(self) -> list[str]:
        return [f"{self.duration_seconds:.4g} s"] if self.duration_seconds is not None else []


def sniff(head: bytes) -> str | None:
    """The content type if ``head`` begins an MCAP file; None otherwise."""
    return _CONTENT_TYPE if head.startswith(_MAGIC) else None


MCAP_FILE = MediaType(
    name="mcap",
    handle=MCAP,
    default_mode="path",
    stat_fields=(pa.field("duration_seconds", pa.float64()),),
    content_types={".mcap": _CONTENT_TYPE},
    sniff=sniff,
    probe=probe_mcap,
)
