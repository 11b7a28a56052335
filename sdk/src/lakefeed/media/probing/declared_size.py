"""The size that a media file declares in its own headers, which shows that a file is truncated."""

from __future__ import annotations

import io
import string
from collections.abc import Callable
from typing import BinaryIO, Literal

UNKNOWN_SIZE = 0x7FFF_F000
"""Programs that write to a pipe declare 32-bit sizes from here on, because they do not know the size."""

_BOX_CHARACTERS = frozenset((string.ascii_letters + string.digits + " ").encode())
_MAX_BOXES = 1 << 20
_MAX_CHUNKS = 1 << 10
_W64_GUID = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_HEAD_BYTES = 4_096
_OGG_PAGE_BYTES = 27 + 255 + 255 * 255
_ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"
_ASF_PROPERTIES = b"\xa1\xdc\xab\x8c\x47\xa9\xcf\x11\x8e\xe4\x00\xc0\x0c\x20\x53\x65"
_SEGMENT = b"\x18\x53\x80\x67"


def declared_size(stream: BinaryIO) -> int | None:
    """Returns the size in bytes that the file must have at least; None if its format does not record one.

    Knows MP4 and MOV, Matroska and WebM, AVI, WAV, RF64, W64, AIFF, CAF, AU, ASF, and MP3 with a Xing or VBRI header.
    An Ogg file or an MPEG transport stream must have its last page or packet whole. Moves the position of the stream.
    """
    stream.seek(0)
    head = stream.read(_HEAD_BYTES)
    measure = next((measure for magic, offset, measure in _FORMATS if head[offset:].startswith(magic)), None)
    return measure(stream, head) if measure is not None else None


def _boxes_end(stream: BinaryIO, head: bytes) -> int | None:
    """Returns the end of the last top-level box of an MP4 or MOV file."""
    position = 0
    for _ in range(_MAX_BOXES):
        stream.seek(position)
        header = stream.read(16)
        if len(header) < 8 or not _BOX_CHARACTERS.issuperset(header[4:8]):
            break  # the end of the file, or padding after the last box
        size = int.from_bytes(header[:4], "big")
        if size == 1:
            size = int.from_bytes(header[8:16], "big")
        if size < 8:  # 0: to the end of the file
            break
        position += size
    return position


def _riff_end(stream: BinaryIO, head: bytes) -> int | None:
    """Returns the end of the samples of a WAV file, or of the last RIFF chunk. Large AVI files have several."""
    if head[8:12] == b"WAVE":
        return _chunk_end(stream, b"data", "little")
    position = 0
    while head[:4] == b"RIFF":
        size = int.from_bytes(head[4:8], "little")
        if not 0 < size < UNKNOWN_SIZE:
            return position or None
        position += 8 + size
        stream.seek(position)
        head = stream.read(8)
    return position - 8  # some programs count the header too


def _rf64_end(stream: BinaryIO, head: bytes) -> int | None:
    return _chunk_end(stream, b"data", "little", int.from_bytes(head[28:36], "little"))


def _form_end(stream: BinaryIO, head: bytes) -> int | None:
    return _chunk_end(stream, b"SSND", "big")


def _chunk_end(stream: BinaryIO, name: bytes, order: Literal["big", "little"], large: int = 0) -> int | None:
    """Returns the end of a chunk, whose size is ``large`` where 32 bits do not suffice."""
    position = 12
    for _ in range(_MAX_CHUNKS):
        stream.seek(position)
        header = stream.read(8)
        size = int.from_bytes(header[4:8], order)
        if len(header) < 8:
            return None
        if header[:4] == name:
            size = large if size >= UNKNOWN_SIZE else size
            return position + 8 + size if size else None
        position += 8 + size + size % 2
    return None


def _w64_end(stream: BinaryIO, head: bytes) -> int | None:
    size = int.from_bytes(head[16:24], "little")
    return size if 0 < size < 1 << 62 else None


def _au_end(stream: BinaryIO, head: bytes) -> int | None:
    offset, size = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")
    return offset + size if size < UNKNOWN_SIZE else None


def _caf_end(stream: BinaryIO, head: bytes) -> int | None:
    position = 8
    while True:
        stream.seek(position)
        header = stream.read(12)
        size = int.from_bytes(header[4:12], "big", signed=True)
        if len(header) < 12 or size < 0:  # -1: to the end of the file
            return position
        position += 12 + size


def _segment_end(stream: BinaryIO, head: bytes) -> int | None:
    """Returns the end of the segment of a Matroska file, the element after the header."""
    header_size, length = _element_size(head[4:12])
    if header_size is None:
        return None
    position = 4 + length + header_size
    stream.seek(position)
    element = stream.read(12)
    size, length = _element_size(element[4:])
    return position + 4 + length + size if element[:4] == _SEGMENT and size is not None else None


def _element_size(data: bytes) -> tuple[int | None, int]:
    """Returns the size at the start of an element's data, and its own length. The size is None if it is unknown."""
    if not data or not data[0]:
        return None, 0
    length = 9 - data[0].bit_length()
    mask = (1 << 7 * length) - 1
    size = int.from_bytes(data[:length], "big") & mask
    return (None if size == mask or len(data) < length else size), length


def _mp3_end(stream: BinaryIO, head: bytes) -> int | None:
    """Returns the end of the frames of an MP3 file whose first frame has their size."""
    begin = 0
    if head.startswith(b"ID3"):
        begin = 10 + sum(byte << 7 * (3 - index) for index, byte in enumerate(head[6:10])) + (head[5] & 16 and 10)
    stream.seek(begin)
    frame = stream.read(_HEAD_BYTES)
    if frame[:1] != b"\xff":
        return None
    for name in (b"Xing", b"Info"):
        at = frame.find(name)
        if at > 0 and len(frame) >= at + 16 and frame[at + 7] & 2:
            field = at + 8 + 4 * (frame[at + 7] & 1)
            return begin + int.from_bytes(frame[field : field + 4], "big")
    at = frame.find(b"VBRI")
    return begin + int.from_bytes(frame[at + 10 : at + 14], "big") if at > 0 else None


def _ogg_end(stream: BinaryIO, head: bytes) -> int | None:
    """Returns the end of the last page of an Ogg file."""
    end = stream.seek(0, io.SEEK_END)
    begin = max(0, end - _OGG_PAGE_BYTES)
    stream.seek(begin)
    tail = stream.read(_OGG_PAGE_BYTES)
    at = tail.rfind(b"OggS\0")
    if at < 0:
        return None
    page = tail[at:]
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    whole = 27 + page[26] + sum(segments) if len(page) > 26 and len(segments) == page[26] else len(page) + 1
    return begin + at + whole


def _transport_end(stream: BinaryIO, head: bytes) -> int | None:
    """Returns the end of the last packet of an MPEG transport stream."""
    for size, offset in ((188, 0), (192, 4)):
        if all(head[at : at + 1] == b"G" for at in range(offset, _HEAD_BYTES, size)):
            whole = stream.seek(0, io.SEEK_END) // size * size
            stream.seek(whole + offset)
            return whole + size if stream.read(1) == b"G" else whole  # what else follows is padding
    return None


def _asf_end(stream: BinaryIO, head: bytes) -> int | None:
    """Returns the size in the file properties of an ASF file (WMV, WMA)."""
    at = head.find(_ASF_PROPERTIES)
    if at < 0 or len(head) < at + 92 or head[at + 88] & 1:  # a broadcast does not know its size
        return None
    return int.from_bytes(head[at + 40 : at + 48], "little")


_FORMATS: tuple[tuple[bytes, int, Callable[[BinaryIO, bytes], int | None]], ...] = (
    (b"RIFF", 0, _riff_end),
    (b"RF64", 0, _rf64_end),
    (b"FORM", 0, _form_end),
    (_W64_GUID, 0, _w64_end),
    (b".snd", 0, _au_end),
    (b"caff", 0, _caf_end),
    (b"\x1aE\xdf\xa3", 0, _segment_end),
    (b"OggS", 0, _ogg_end),
    (b"ID3", 0, _mp3_end),
    *((bytes([0xFF, byte]), 0, _mp3_end) for byte in (0xE2, 0xE3, 0xF2, 0xF3, 0xFA, 0xFB)),
    (_ASF, 0, _asf_end),
    (b"G", 0, _transport_end),
    (b"G", 4, _transport_end),
    *((box, 4, _boxes_end) for box in (b"ftyp", b"styp", b"moov", b"mdat", b"moof", b"wide", b"free", b"skip")),
)
