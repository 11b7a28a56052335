"""The length of a Rerun recording, from the index at the end of the file.

Rerun's own library is 500 MB and reads the whole file, so the few bytes that matter here are read by hand. As Rerun
0.41 writes it, the file ends with

    footer | where each footer is: offset, length (8 bytes each), checksum (4) | b"RRF2FOOT" | number of footers (4)

little endian, and a footer is a Protobuf message (RrdFooter). Of it we need, as numbers of fields:

    1 manifest, one a recording: 1 store id (1 kind: 1 is a recording, 2 a blueprint), 4 data
      data: 2 an Arrow IPC stream, 3 compression (2 is LZ4), 4 its length without

That Arrow table has a row a chunk and, for each timeline, columns ``<timeline>:start`` and ``<timeline>:end`` whose
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
    """The seconds of the longest of the recording's own time lines; else of ``log_time``, when it was written down.

    None if the file has no index (an old one, or one that was never closed) or no time line.

    Raises:
        FormatError: it is broken or no recording.
    """
    if stream.read(len(MAGIC)) != MAGIC:
        raise FormatError("it is no Rerun recording")
    try:
        spans = [
            span
            for footer in _read_footers(stream)
            for table in _read_manifests(footer)
            for span in _timeline_seconds(table).items()
        ]
    except (ArithmeticError, LookupError, NotImplementedError, OSError, TypeError, ValueError, struct.error) as error:
        raise FormatError(f"its index is broken: {error}") from error
    own = [seconds for name, seconds in spans if name != _LOG_TIME]
    return {"duration_seconds": max(own or [seconds for _, seconds in spans], default=None)}


def load() -> None:
    """Imports what it takes, which is much."""
    import pyarrow.compute  # noqa: F401


def _read_footers(stream: BinaryIO) -> Iterator[bytes]:
    length = stream.seek(0, os.SEEK_END)
    if length < _TRAILER.size:
        return
    stream.seek(length - _TRAILER.size)
    mark, count = _TRAILER.unpack(stream.read(_TRAILER.size))
    if mark != _FOOTER_MARK:
        return
    places = length - _TRAILER.size - count * _FOOTER_LOCATION.size
    if places < 0:
        raise ValueError(f"{count} footers in {length} bytes")
    stream.seek(places)
    for offset, size, _ in list(_FOOTER_LOCATION.iter_unpack(stream.read(count * _FOOTER_LOCATION.size))):
        if size > _MAX_BYTES:
            raise ValueError(f"a footer of {size} bytes")
        stream.seek(offset)
        yield stream.read(size)


def _read_manifests(footer: bytes) -> Iterator[Any]:
    """The Arrow table of each recording."""
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
    """The seconds that each time line covers; those that count frames or the like are left out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = {}
    for field in table.schema:
        name, _, edge = field.name.rpartition(":")
        in_time = pa.types.is_timestamp(field.type) or pa.types.is_duration(field.type)
        if edge != "start" or not in_time or (field.metadata or {}).get(b"rerun:index") != name.encode():
            continue
        first = pc.min(table[field.name].cast(pa.int64())).as_py()
        last = pc.max(table[f"{name}:end"].cast(pa.int64())).as_py()
        if first is not None and last is not None:
            found[name] = (last - first) / _NANOSECONDS
    return found


def _protobuf_fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a Protobuf message: their numbers, and their values as integers or bytes."""
    place = 0
    while place < len(message):
        key, place = _read_varint(message, place)
        kind = key & 7
        if kind == _VARINT:
            value, place = _read_varint(message, place)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            size, place = _read_varint(message, place)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"a field of kind {kind}")
        if place + size > len(message):
            raise ValueError("a field is cut short")
        yield key >> 3, message[place : place + size]
        place += size


def _read_varint(message: bytes, place: int) -> tuple[int, int]:
    """The number at ``place``, and the place after it."""
    value = shift = 0
    while True:
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")
