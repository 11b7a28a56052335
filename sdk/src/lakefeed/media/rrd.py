"""Recordings of Rerun. Their length is read without Rerun's library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from lakefeed.media.base import MediaType
from lakefeed.media.handles import Handle
from lakefeed.media.probing.rrd import MAGIC, probe_rrd

_CONTENT_TYPE = "application/x-rerun"


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class RRD(Handle):
    """A recording of Rerun; give ``path()`` to Rerun's library or viewer.

    Attributes:
        duration_seconds: of its longest time line; None if the file has no index (old, or never closed).

    Example:
        >>> RRD("run.rrd", duration_seconds=12.5)
        RRD('run.rrd', 12.5 s)
    """

    media: ClassVar[str] = "rrd"

    duration_seconds: float | None = None

    def _details(self) -> list[str]:
        return [f"{self.duration_seconds:.4g} s"] if self.duration_seconds is not None else []


def sniff(head: bytes) -> str | None:
    """The content type if ``head`` begins a Rerun recording (``RRF2``, or an older digit); None otherwise."""
    return _CONTENT_TYPE if head.startswith(MAGIC) and head[3:4].isdigit() else None


RRD_FILE = MediaType(
    name="rrd",
    handle=RRD,
    default_mode="path",
    stat_fields=(pa.field("duration_seconds", pa.float64()),),
    content_types={".rrd": _CONTENT_TYPE},
    sniff=sniff,
    probe=probe_rrd,
)
