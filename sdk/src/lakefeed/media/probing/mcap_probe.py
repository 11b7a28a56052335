"""The length of recordings in MCAP, through the library ``mcap``, which is imported when the first one is opened."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

from lakefeed.errors import FormatError, MissingDependencyError

_NANOSECONDS = 1e9


def probe_mcap(stream: BinaryIO) -> Mapping[str, float | None]:
    """The seconds between the first message and the last, from the summary at the end of the file.

    None if the summary does not tell (it is optional) or there are no messages.

    Raises:
        FormatError: it is broken or no MCAP file.
        MissingDependencyError: the library is not installed.
    """
    reader, errors = load()
    try:
        summary = reader(stream).get_summary()
    except (errors, OSError, ValueError, LookupError, ArithmeticError, struct.error) as error:
        raise FormatError(str(error) or type(error).__name__) from error
    found = summary.statistics if summary is not None else None
    if found is None or not found.message_count:
        return {"duration_seconds": None}
    return {"duration_seconds": (found.message_end_time - found.message_start_time) / _NANOSECONDS}


def load() -> tuple[Any, type[Exception]]:
    """The reader of MCAP files, and the root of its errors.

    Raises:
        MissingDependencyError: the library is not installed.
    """
    try:
        from mcap.exceptions import McapError
        from mcap.reader import SeekingReader
    except ImportError as error:
        raise MissingDependencyError("MCAP files need the library mcap: pip install 'lakefeed[mcap]'") from error
    return SeekingReader, McapError
