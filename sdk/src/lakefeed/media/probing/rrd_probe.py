"""Durations of Rerun recordings, from the index at the end of the file.

Rerun's own library has 500 MB and reads the whole file, so the index is parsed here. A file of Rerun 0.41 ends with

    footer | where each footer is: offset, length (8 bytes each), checksum (4) | b"RRF2FOOT" | number of footers (4)

little endian. A footer is a Protobuf message (RrdFooter). These fields are used, with their numbers:

    1 manifest, one per recording: 1 store id (1 kind: 1 is a recording, 2 a blueprint), 4 data
      data: 2 an Arrow IPC stream, 3 compression (2 is LZ4), 4 the uncompressed length

The Arrow table has one row per chunk and, for each timeline, columns ``<timeline>:start`` and ``<timeline>:end`` whose
metadata has ``rerun:index``.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from lakefeed._units import MIB
from lakefeed.errors import FormatError

MAGIC = b"RRF"
_TRAILER = struct.Struct("<8sI")
_FOOTER_LOCATION = struct.Struct("<QQI")
_FOOTER_MARK = b"RRF2FOOT"
_MAX_BYTES = 256 * MIB
_RECORDING, _LZ4 = 1, 2
_LOG_TIME = "log_time"
_NANOSECONDS = 1e9

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def probe_rrd(stream: BinaryIO) -> Mapping[str, float | None]:
    """Reads the seconds of the longest timeline of a recording. ``log_time`` counts only if there is no other.

    The duration is None if the file has no index (it is old or was never closed) or no timeline.

    Raises:
        FormatError: the file is broken or not a recording.
    """
    if stream.read(len(MAGIC)) != MAGIC:
        raise FormatError("it is not a Rerun recording")
    try:
        spans = [
            span
            for footer in _read_footers(stream)
            for table in _read_manifests(footer)
            for span in _timeline_seconds(table).items()
        ]
    except (ArithmeticError, LookupError, NotImplementedError, OSError, TypeError, ValueError, struct.error) as error:
        raise FormatError(f"the index is broken: {error}") from error
    own = [seconds for name, seconds in spans if name != _LOG_TIME]
    return {"duration_seconds": max(own or [seconds for _, seconds in spans], default=None)}


def load() -> None:
    """Imports pyarrow before the timeout of the first file starts."""
    import pyarrow.compute  # noqa: F401


def _read_footers(stream: BinaryIO) -> Iterator[bytes]:
    length = stream.seek(0, os.SEEK_END)
    if length < _TRAILER.size:
        return
    stream.seek(length - _TRAILER.size)
    mark, count = _TRAILER.unpack(stream.read(_TRAILER.size))
    if mark != _FOOTER_MARK:
        return
    start = length - _TRAILER.size - count * _FOOTER_LOCATION.size
    if start < 0:
        raise ValueError(f"{count} footers in {length} bytes")
    stream.seek(start)
    for offset, size, _ in list(_FOOTER_LOCATION.iter_unpack(stream.read(count * _FOOTER_LOCATION.size))):
        if size > _MAX_BYTES:
            raise ValueError(f"a footer of {size} bytes")
        stream.seek(offset)
        yield stream.read(size)


def _read_manifests(footer: bytes) -> Iterator[Any]:
    """Yields the Arrow table of each recording."""
    import pyarrow as pa

    for number, manifest in _protobuf_fields(footer):
        parts = dict(_protobuf_fields(manifest)) if number == 1 else {}
        if not parts or dict(_protobuf_fields(parts[1]))[1] != _RECORDING:
            continue
        data = dict(_protobuf_fields(parts[4]))
        content = data[2]
        if data.get(3) == _LZ4:
            if data[4] > _MAX_BYTES:
                raise ValueError(f"an index of {data[4]} bytes")
            content = pa.Codec("lz4_raw").decompress(content, data[4])
        yield pa.ipc.open_stream(content).read_all()


def _timeline_seconds(table: Any) -> dict[str, float]:
    """Returns the seconds that each timeline covers, without timelines of other units such as frame numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    seconds = {}
    for field in table.schema:
        name, _, edge = field.name.rpartition(":")
        in_time = pa.types.is_timestamp(field.type) or pa.types.is_duration(field.type)
        if edge != "start" or not in_time or (field.metadata or {}).get(b"rerun:index") != name.encode():
            continue
        first = pc.min(table[field.name].cast(pa.int64())).as_py()
        last = pc.max(table[f"{name}:end"].cast(pa.int64())).as_py()
        if first is not None and last is not None:
            seconds[name] = (last - first) / _NANOSECONDS
    return seconds


def _protobuf_fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yields the fields of a Protobuf message: their numbers, and their values as integers or bytes."""
    position = 0
    while position < len(message):
        key, position = _read_varint(message, position)
        kind = key & 7
        if kind == _VARINT:
            value, position = _read_varint(message, position)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            size, position = _read_varint(message, position)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"a field of kind {kind}")
        if position + size > len(message):
            raise ValueError("a field is truncated")
        yield key >> 3, message[position : position + size]
        position += size


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    """Returns the number at ``position`` and the position after it."""
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")
