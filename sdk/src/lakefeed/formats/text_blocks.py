"""Text files for Arrow's parsers, in blocks of whole lines.

Arrow's own streaming readers read ahead in a thread of theirs that calls the Python file, also when nobody wants more,
and in a process that ends meanwhile it aborts. So the file is read here, by whoever asks for rows, and Arrow only gets
memory of its own: none of its threads ever comes back to Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from lakefeed._units import MIB
from lakefeed.errors import FormatError
from lakefeed.formats.csv_records import count_lines, last_record_end, open_quote

BLOCK_BYTES = 8 * MIB
"""The size of the block that types are taken from where nobody says them."""

CHUNK_BYTES = MIB
LINE_BYTES = 2 * BLOCK_BYTES
"""The longest line there may be."""

UTF8_MARK = b"\xef\xbb\xbf"
"""What may stand before UTF-8."""

WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")
"""What stands before UTF-16 and UTF-32. Without it, one of the first bytes is zero."""

BEGINNING_BYTES = 4

SHOWN_BYTES = 80
NOT_UTF8 = "is not UTF-8; convert the file, such as by iconv -f ISO-8859-1 -t UTF-8"


def blocks(
    file: Any, size: int = CHUNK_BYTES, name: str = "the text", *, quoted: bool = False
) -> Iterator[tuple[int, bytes]]:
    r"""Yields the whole lines of an open file, about ``size`` bytes at a time, without a byte order mark.

    With each block comes the number of its first line.

    Args:
        file: an open file.
        size: in bytes.
        name: of the file, for messages.
        quoted: the file is CSV, whose lines may break within quoted cells, and may end in ``\r``.

    Raises:
        FormatError: a line is longer than `LINE_BYTES`, a quoted cell does not end, or the file is UTF-16 or UTF-32.
    """
    rest, line = _read_start(file, name), 1
    while True:
        # At least as much again as there is: so a long line is looked through a few times only.
        wanted = max(size, len(rest))
        more = _read_fully(file, wanted)
        block = rest + more
        if len(more) < wanted:
            break
        end = last_record_end(block) if quoted else block.rfind(b"\n") + 1
        if end:
            whole = block[:end]
            yield line, whole
            line += count_lines(whole) if quoted else whole.count(b"\n")
        elif len(block) > LINE_BYTES:
            raise FormatError(f"{name}, {_too_long_message(block, line, open_quote(block) if quoted else None)}")
        rest = block[end:]
    if quoted and (start := open_quote(block)) is not None:
        raise FormatError(
            f"{name}, line {line + count_lines(block[:start])}: the quote that opens a cell is not closed"
        )
    if block:
        yield line, block


def check_utf8(text: bytes, name: str, line: int = 1) -> None:
    """Raises FormatError with the first line that is not UTF-8. ``line``: the number of the first one."""
    if text.isascii():
        return
    try:
        text.decode()
    except UnicodeDecodeError as error:
        number = line + text.count(b"\n", 0, error.start)
        wrong = text[text.rfind(b"\n", 0, error.start) + 1 :].split(b"\n", 1)[0]
        raise FormatError(f"{name}, line {number}: {wrong[:SHOWN_BYTES]!r} {NOT_UTF8}") from None


def decode_text(content: bytes, name: str) -> str:
    """Returns a whole text, without a mark that says that it is UTF-8.

    Raises:
        FormatError: it is not UTF-8.
    """
    _check_wide(content, name)
    check_utf8(content, name)
    return content.decode("utf-8-sig")


def _read_start(file: Any, name: str) -> bytes:
    """The first bytes, without a mark that says that they are UTF-8."""
    first = _read_fully(file, BEGINNING_BYTES)
    _check_wide(first, name)
    return first.removeprefix(UTF8_MARK)


def _check_wide(content: bytes, name: str) -> None:
    """Raises FormatError where the first bytes show that a text is UTF-16 or UTF-32."""
    if content.startswith(WIDE_MARKS) or b"\0" in content[:BEGINNING_BYTES]:
        raise FormatError(
            f"{name}, line 1: the text is UTF-16 or UTF-32, not UTF-8; convert it, such as by iconv -f UTF-16 -t UTF-8"
        )


def _read_fully(file: Any, size: int) -> bytes:
    """``size`` bytes, or what is left: some files give less than they are asked for."""
    pieces, left = [], size
    while left and (piece := file.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _too_long_message(block: bytes, line: int, start: int | None) -> str:
    if start is None:
        return f"line {line}: a line is longer than {LINE_BYTES >> 20} MiB"
    at = line + count_lines(block[:start])
    return f"line {at}: the quote that opens a cell is not closed within {LINE_BYTES >> 20} MiB"


def memory_file(*pieces: bytes) -> Any:
    """Bytes as a file of Arrow's own memory."""
    sink = pa.BufferOutputStream()
    for piece in pieces:
        sink.write(piece)
    return pa.BufferReader(sink.getvalue())
