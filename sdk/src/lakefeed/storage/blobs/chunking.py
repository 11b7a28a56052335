"""Cuts large contents by their bytes, so that an edited file shares most of its chunks with the file before the edit.

Where a content is cut decides which chunks are shared, never what is read: another cutter only stores more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final

from lakefeed._units import KIB, MIB

AVERAGE_BYTES: Final = 128 * KIB
MIN_BYTES: Final = 32 * KIB
MAX_BYTES: Final = 512 * KIB
READ_BYTES: Final = 8 * MIB

COMPRESSED_MAGIC: Final = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"OggS",
    b"ID3",  # MP3 with tags
    b"\xff\xfb",  # MP3
    b"fLaC",
    b"\x1f\x8b",  # gzip
    b"\xfd7zXZ\x00",
    b"\x28\xb5\x2f\xfd",  # zstd
    b"BZh",
)
"""The first bytes of formats whose bytes all change after an edit. Zip is not one: PyTorch and NumPy store in it."""
ISO_MEDIA: Final = b"ftyp"  # MP4, HEIF: after the length of the first box
HEAD_BYTES: Final = 16
"""The bytes of a content that `is_compressed` looks at."""


def is_compressed(head: bytes) -> bool:
    r"""Returns whether a content that starts with ``head`` is a compressed medium, which is not worth cutting.

    Example:
        >>> is_compressed(b"\x1f\x8b\x08"), is_compressed(b"PK\x03\x04")
        (True, False)
    """
    return head.startswith(COMPRESSED_MAGIC) or head[4:8] == ISO_MEDIA


def cut(source: BinaryIO) -> Iterator[tuple[bytes, list[memoryview]]]:
    """Reads the rest of a stream. Yields the bytes of each read, and the chunks that are complete after it.

    The chunks are those of the whole content, whatever the sizes of the reads.

    Example:
        >>> import io
        >>> [len(chunk) for _, chunks in cut(io.BytesIO(bytes(600 * 1024))) for chunk in chunks]
        [524288, 90112]
    """
    from pyfastcdc import FastCDC

    cutter = FastCDC(AVERAGE_BYTES, min_size=MIN_BYTES, max_size=MAX_BYTES)  # not safe between threads
    rest = b""
    while piece := source.read(READ_BYTES):
        chunks = [chunk.data for chunk in cutter.cut_buf(rest + piece)]
        rest = bytes(chunks.pop())  # more bytes may make it longer
        yield piece, chunks
    if rest:
        yield b"", [memoryview(rest)]
