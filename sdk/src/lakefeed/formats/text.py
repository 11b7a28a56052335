"""Text files for Arrow's parsers, in blocks of whole lines.

Arrow's own streaming readers read ahead in a thread of theirs that calls the Python file, also when nobody wants more,
and in a process that ends meanwhile it aborts. So the file is read here, by whoever asks for rows, and Arrow only gets
memory of its own: none of its threads ever comes back to Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from lakefeed.errors import FormatError

BLOCK_BYTES = 8 << 20
"""What the types are taken from where nobody says them."""

PIECE_BYTES = 1 << 20
LINE_BYTES = 2 * BLOCK_BYTES
"""The longest line there may be."""

QUOTED = re.compile(rb'(?:(?<=[,\r\n])|\A)"[^"]*(?:""[^"]*)*(?:"|\Z)')
"""A quoted cell, or the beginning of one."""


def first_block(file: Any, *, quoted: bool = False) -> bytes:
    """The lines at the beginning, about as many as types are taken from."""
    return next(blocks(file, BLOCK_BYTES, quoted=quoted), b"")


def blocks(file: Any, size: int = PIECE_BYTES, *, quoted: bool = False) -> Iterator[bytes]:
    """The lines of an open file, about ``size`` bytes at a time; of a file without any, none.

    Args:
        file: an open file.
        size: in bytes.
        quoted: lines may break within double quotes.

    Raises:
        FormatError: a line is longer than `LINE_BYTES`.
    """
    rest = b""
    while more := _piece(file, size):
        block = rest + more
        end = _end(block, quoted=quoted)
        if not end and len(block) > LINE_BYTES:
            end = _end(QUOTED.sub(_masked, block), quoted=False) if quoted else 0
        if not end and len(block) > LINE_BYTES:
            raise FormatError(f"a line is longer than {LINE_BYTES >> 20} MiB")
        if end:
            yield block[:end]
        rest = block[end:]
    if rest:
        yield rest


def _piece(file: Any, size: int) -> bytes:
    """``size`` bytes, or what is left: some files give less than they are asked for."""
    pieces, left = [], size
    while left and (piece := file.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _end(block: bytes, *, quoted: bool) -> int:
    """Where the last whole line ends; 0 if there is none.

    ``quoted``: not after an odd number of quotes. That is always a good place, but not the only one there is: a lone
    quote in the middle of a cell quotes nothing.
    """
    end = block.rfind(b"\n")
    odd = quoted and block.count(b'"', 0, max(end, 0)) % 2
    while odd and end >= 0:
        quote = block.rfind(b'"', 0, end)
        end = block.rfind(b"\n", 0, quote)
        odd = block.count(b'"', max(end, 0), quote) % 2  # so many besides that one lie between
    return end + 1


def _masked(cell: re.Match[bytes]) -> bytes:
    return b"-" * len(cell[0])


def in_memory(*pieces: bytes) -> Any:
    """Bytes as a file of Arrow's own memory."""
    sink = pa.BufferOutputStream()
    for piece in pieces:
        sink.write(piece)
    return pa.BufferReader(sink.getvalue())


def header(block: bytes) -> bytes:
    """The first line of CSV that is not blank, with what is before it."""
    end = 0
    while True:
        end = block.find(b"\n", end) + 1
        if not end:
            return block + b"\n"
        if block[:end].strip(b"\xef\xbb\xbf\r\n") and not block.count(b'"', 0, end) % 2:
            return block[:end]
