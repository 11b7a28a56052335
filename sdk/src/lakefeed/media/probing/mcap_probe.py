"""Durations of MCAP recordings. The library ``mcap`` is imported when the first file is opened."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

from lakefeed.errors import FormatError, MissingDependencyError

_NANOSECONDS = 1e9


def probe_mcap(stream: BinaryIO) -> Mapping[str, float | None]:
    """Reads the seconds between the first message and the last from the summary at the end of the file.

    The duration is None if the summary has no statistics or the file has no messages.

    Raises:
        FormatError: the file is broken or not an MCAP file.
        MissingDependencyError: the library is not installed.
    """
    reader, errors = load()
    try:
        summary = reader(stream).get_summary()
    except (errors, OSError, ValueError, LookupError, ArithmeticError, struct.error) as error:
        raise FormatError(str(error) or type(error).__name__) from error
    statistics = summary.statistics if summary is not None else None
    if statistics is None or not statistics.message_count:
        return {"duration_seconds": None}
    return {"duration_seconds": (statistics.message_end_time - statistics.message_start_time) / _NANOSECONDS}


def load() -> tuple[Any, type[Exception]]:
    """Returns the reader of MCAP files and the base class of its errors.

    Raises:
        MissingDependencyError: the library is not installed.
    """
    try:
        from mcap.exceptions import McapError
        from mcap.reader import SeekingReader
    except ImportError as error:
        raise MissingDependencyError("MCAP files need the library mcap: pip install 'lakefeed[mcap]'") from error
    return SeekingReader, McapError
