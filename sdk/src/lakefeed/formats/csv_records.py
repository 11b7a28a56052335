r"""The ends of CSV records, by the rules of Arrow's parser.

A quote opens a quoted cell at the start of a cell only. In a quoted cell two quotes are one, and a single one closes
it. After that, and in any other cell, quotes are text. Outside quoted cells ``\n``, ``\r`` and ``\r\n`` end a record.

A state machine would read byte by byte. The functions here look at the positions of quotes only. Of a run of quotes
only the parity matters: an odd run at the start of a cell changes the state, and any other odd run leaves the cell
unquoted.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Positions: TypeAlias = npt.NDArray[np.int64]

HEADER_BYTES = 4096
"""Most headers are shorter."""

LF, CR, QUOTE, DELIMITER = b'\n\r",'

BEFORE_OPENING = np.zeros(256, np.bool_)
"""For each byte value, whether a quote after it opens a cell or is the second of two in a quoted cell."""
BEFORE_OPENING[[LF, CR, QUOTE, DELIMITER]] = True


def last_record_end(block: bytes) -> int:
    r"""Returns the offset after the last complete record of a block that begins with a record; 0 if there is none.

    A ``\r`` at the very end is not the end of a record, as a ``\n`` may follow.
    """
    if b'"' not in block:
        return _last_line_end(block, len(block))
    text = np.frombuffer(block, np.uint8)
    quotes = np.flatnonzero(text == QUOTE)
    if _quotes_are_paired(text, quotes):
        return _last_unquoted_end(block, quotes)
    ends = record_ends(block)
    at_edge = len(ends) > 0 and ends[-1] == len(block) and block.endswith(b"\r")
    complete = ends[:-1] if at_edge else ends
    return int(complete[-1]) if len(complete) else 0


def record_ends(block: bytes) -> Positions:
    """Returns the offsets after each line end that is outside quoted cells. Blank lines count as records."""
    text = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero((text == LF) | (text == CR)).astype(np.int64)
    # Of \r\n the second byte ends the record.
    inner = (text[ends] == CR) & (text[np.minimum(ends + 1, len(text) - 1)] == LF)
    ends = ends[~inner]
    if b'"' in block:
        changes, quoted = _quote_states(text)
        states = np.concatenate(([False], quoted))
        ends = ends[~states[np.searchsorted(changes, ends)]]
    after: Positions = ends + 1
    return after


def header_end(block: bytes) -> int:
    """Returns the offset after the first record that is not blank; the length of the block if no record ends in it."""
    blank = len(block) - len(block.lstrip(b"\r\n"))
    size = blank + HEADER_BYTES
    while True:
        ends = record_ends(block[:size])
        ends = ends[ends > blank]
        if len(ends) and (ends[0] < size or size >= len(block)):
            return int(ends[0])
        if size >= len(block):
            return len(block)
        size *= 8


def open_quote(block: bytes) -> int | None:
    """Returns the offset of the quote that opens a cell which the block does not close; None if all are closed."""
    if b'"' not in block:
        return None
    changes, quoted = _quote_states(np.frombuffer(block, np.uint8))
    if not len(changes) or not quoted[-1]:
        return None
    return int(changes[-1])


def count_lines(text: bytes) -> int:
    """Returns the number of line ends, in quoted cells too."""
    lines = count_byte(text, LF)
    return lines + count_byte(text, CR) - text.count(b"\r\n") if b"\r" in text else lines


def count_byte(text: bytes, byte: int) -> int:
    """Returns the number of bytes of a text that are ``byte``. Several times faster than ``bytes.count``."""
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == byte))


def _last_line_end(block: bytes, stop: int) -> int:
    end = block.rfind(b"\n", 0, stop) + 1
    return max(end, block.rfind(b"\r", end, min(stop, len(block) - 1)) + 1)


def _quotes_are_paired(text: npt.NDArray[np.uint8], quotes: Positions) -> bool:
    """Returns whether all quotes open a cell, close one or are doubled: then the state is the parity of the quotes."""
    opening = quotes[2::2] if quotes[0] == 0 else quotes[::2]
    return bool(BEFORE_OPENING[text[opening - 1]].all())


def _last_unquoted_end(block: bytes, quotes: Positions) -> int:
    """Returns what `last_record_end` returns, for paired quotes: skips the quoted cells at the end."""
    stop = len(block)
    while end := _last_line_end(block, stop):
        before = int(np.searchsorted(quotes, end))
        if before % 2 == 0:
            return end
        stop = int(quotes[before - 1])
    return 0


def _quote_states(text: npt.NDArray[np.uint8]) -> tuple[Positions, npt.NDArray[np.bool_]]:
    """Returns where the odd runs of quotes begin, and whether the text after each of them is quoted."""
    quotes = np.flatnonzero(text == QUOTE)
    first = np.flatnonzero(np.diff(quotes, prepend=-2) != 1)
    odd = np.diff(first, append=len(quotes)) % 2 == 1
    begins = quotes[first][odd].astype(np.int64)
    before = text[begins - 1]  # of a quote at 0 this is another byte, which does not matter
    starts_cell = (begins == 0) | (before == DELIMITER) | (before == LF) | (before == CR)
    # The state after a run is the parity of the runs at cell starts since the last one elsewhere.
    starts = np.concatenate(([0], np.cumsum(starts_cell)))
    resets = np.maximum.accumulate(np.where(starts_cell, 0, np.arange(1, len(begins) + 1)))
    return begins, (starts[1:] - starts[resets]) % 2 == 1
