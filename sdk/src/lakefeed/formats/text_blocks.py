"""Blocks of complete lines of text files for Arrow's parsers.

Arrow's own streaming readers read ahead in a thread that calls the Python file, even when no more rows are wanted, and
abort if the process ends meanwhile. So the file is read here in the calling thread, and Arrow only gets memory of its
own. None of its threads ever calls Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from lakefeed._units import MIB
from lakefeed.errors import FormatError
from lakefeed.formats.csv_records import LF, count_byte, count_lines, last_record_end, open_quote

BLOCK_BYTES = 8 * MIB
"""The size of the block that types are inferred from."""

CHUNK_BYTES = MIB
LINE_BYTES = 2 * BLOCK_BYTES
"""The maximum length of a line."""

UTF8_MARK = b"\xef\xbb\xbf"
"""The byte order mark of UTF-8."""

WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")
"""The byte order marks of UTF-16 and UTF-32. Without them, one of the first bytes is zero."""

BINARY_MARKS = {
    b"\x1f\x8b": "gzip", b"PK\x03\x04": "ZIP or an Office document", b"BZh91AY&": "bzip2", b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard", b"PAR1\x15": "Parquet", b"ARROW1\0": "Arrow", b"%PDF-": "PDF",
    b"\xd0\xcf\x11\xe0": "an Office document",
}  # fmt: skip
"""The beginnings of files that are not text, whatever their names say."""

BEGINNING_BYTES, WIDE_BYTES = 8, 4

SHOWN_BYTES = 80
NOT_UTF8 = "is not UTF-8; convert the file, such as by iconv -f ISO-8859-1 -t UTF-8"


class OpenQuoteError(FormatError):
    """A quoted cell does not end.

    Attributes:
        text: the text of which no block was yielded, to the end of the file.
        line: the number of its first line.
        quote: the offset of the quote in it.
    """

    text: bytes = b""
    line: int = 1
    quote: int = 0


def blocks(
    file: Any, size: int = CHUNK_BYTES, name: str = "the text", *, quoted: bool = False, largest: int = 0
) -> Iterator[tuple[int, bytes]]:
    r"""Yields blocks of complete lines with the number of their first line, without a byte order mark.

    Args:
        file: an open file.
        size: the approximate size of the first block in bytes.
        name: the name of the file for messages.
        largest: later blocks double in size until they have about this size. By default all have the same size.
        quoted: the file is CSV, in which quoted cells may contain line ends and lines may end in ``\r``.

    Raises:
        OpenQuoteError: a quoted cell does not end.
        FormatError: a line is longer than `LINE_BYTES`, or the file is UTF-16, UTF-32 or not text.
    """
    rest, line = _read_start(file, name), 1
    while True:
        # At least doubles the block, so that a long line is scanned only a few times.
        read_size = max(size, len(rest))
        more = _read_fully(file, read_size)
        block = rest + more
        if len(more) < read_size:
            break
        end = last_record_end(block) if quoted else block.rfind(b"\n") + 1
        if end:
            complete = block[:end]
            yield line, complete
            line += count_lines(complete) if quoted else count_byte(complete, LF)
            size = max(size, min(2 * size, largest))
        elif len(block) > LINE_BYTES:
            raise FormatError(f"{name}, {_too_long_message(block, line, open_quote(block) if quoted else None)}")
        rest = block[end:]
    if quoted and (start := open_quote(block)) is not None:
        error = OpenQuoteError(
            f"{name}, line {line + count_lines(block[:start])}: the quote that opens a cell is not closed"
        )
        error.text, error.line, error.quote = block, line, start
        raise error
    if block:
        yield line, block


def check_utf8(text: bytes, name: str, line: int = 1) -> None:
    """Raises FormatError for the first line that is not UTF-8. ``line`` is the number of the first line."""
    if text.isascii():
        return
    try:
        text.decode()
    except UnicodeDecodeError as error:
        number = line + text.count(b"\n", 0, error.start)
        bad_line = text[text.rfind(b"\n", 0, error.start) + 1 :].split(b"\n", 1)[0]
        raise FormatError(f"{name}, line {number}: {bad_line[:SHOWN_BYTES]!r} {NOT_UTF8}") from None


def decode_text(content: bytes, name: str) -> str:
    """Decodes UTF-8 text, without its byte order mark.

    Raises:
        FormatError: the text is not UTF-8.
    """
    _check_wide(content, name)
    check_utf8(content, name)
    return content.decode("utf-8-sig")


def _read_start(file: Any, name: str) -> bytes:
    """Reads the first bytes, without the byte order mark of UTF-8."""
    first = _read_fully(file, BEGINNING_BYTES)
    _check_wide(first, name)
    return first.removeprefix(UTF8_MARK)


def _check_wide(content: bytes, name: str) -> None:
    """Raises FormatError if the first bytes show that a text is UTF-16 or UTF-32, or not text at all."""
    kind = next((kind for mark, kind in BINARY_MARKS.items() if content.startswith(mark)), None)
    if kind is not None:
        raise FormatError(f"{name}, line 1: the file is not text but {kind}; give it the suffix of its format")
    if content.startswith(WIDE_MARKS) or b"\0" in content[:WIDE_BYTES]:
        raise FormatError(
            f"{name}, line 1: the text is UTF-16 or UTF-32, not UTF-8; convert it, such as by iconv -f UTF-16 -t UTF-8"
        )


def _read_fully(file: Any, size: int) -> bytes:
    """Reads ``size`` bytes, or to the end of the file. One ``read`` may return fewer bytes than requested."""
    chunks, remaining = [], size
    while remaining and (chunk := file.read(remaining)):
        chunks.append(chunk)
        remaining -= len(chunk)
    return b"".join(chunks)


def _too_long_message(block: bytes, line: int, start: int | None) -> str:
    if start is None:
        return f"line {line}: a line is longer than {LINE_BYTES // MIB} MiB"
    number = line + count_lines(block[:start])
    return f"line {number}: the quote that opens a cell is not closed within {LINE_BYTES // MIB} MiB"


def memory_file(*chunks: bytes) -> Any:
    """Returns a file in Arrow's own memory with the bytes."""
    sink = pa.BufferOutputStream()
    for chunk in chunks:
        sink.write(chunk)
    return pa.BufferReader(sink.getvalue())
