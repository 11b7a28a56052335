"""Base classes of handles with a duration: audio, videos and recordings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar

import pyarrow as pa

from lakefeed.errors import FormatError
from lakefeed.media.handles import Handle
from lakefeed.media.media_type import MediaType, Stats
from lakefeed.media.probing.av_probe import open_container

_INDEXED_CONTAINER = "mov,mp4,m4a,3gp,3g2,mj2"

DURATION = pa.field("duration_seconds", pa.float64())


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class TimedHandle(Handle):
    """A file with a duration.

    Attributes:
        duration_seconds: the duration; None if the file does not record it.
    """

    duration_seconds: float | None = None

    def _details(self) -> list[str]:
        return [f"{self.duration_seconds:.4g} s"] if self.duration_seconds is not None else []


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class PlayableHandle(TimedHandle):
    """A file that PyAV decodes. ``_probe`` reads its statistics."""

    _probe: ClassVar[Callable[[BinaryIO], Stats]]

    def info(self) -> Mapping[str, Any]:
        """Reads the statistics from the file itself.

        Returns:
            The statistics of the media type by name, such as ``duration_seconds``.

        Raises:
            FormatError: the file is broken or has another type.
            MissingDependencyError: PyAV is not installed.
            FileError: the file cannot be read.
        """
        with self.open() as stream:
            return type(self)._probe(stream)

    @contextmanager
    def _decoding(self) -> Iterator[Any]:
        """Opens the container."""
        with self.open() as stream, open_container(stream) as container:
            yield container

    def _require_complete(self, decoded: Any, container: Any) -> None:
        """Raises FormatError if the file ends before the last packet of the decoded stream, or before its own end."""
        if decoded.frames and container.format.name == _INDEXED_CONTAINER:
            size = max((entry.pos + entry.size for entry in decoded.index_entries), default=0)
        else:
            from lakefeed.media.probing.declared_size import declared_size

            with self.open() as stream:
                size = declared_size(stream) or 0
        if size > container.size:
            raise FormatError(f"the file is truncated: it has {container.size} bytes instead of {size} or more")


def start_timestamp(stream: Any) -> int:
    """Returns the start time of a stream in units of its time base."""
    return stream.start_time or 0


def has_exact_timestamps(container: Any, containers: frozenset[str]) -> bool:
    """Returns whether the container format is one of ``containers``."""
    return container.format.name in containers


def recording_type(
    handle: type[TimedHandle],
    content_type: str,
    sniff: Callable[[bytes], str | None],
    probe: Callable[[BinaryIO], Stats],
) -> MediaType:
    """Returns a media type with ``duration_seconds`` only. ``handle.media`` is its name and its file extension."""
    return MediaType(
        name=handle.media,
        handle=handle,
        default_mode="path",
        stat_fields=(DURATION,),
        content_types={f".{handle.media}": content_type},
        sniff=sniff,
        probe=probe,
    )
