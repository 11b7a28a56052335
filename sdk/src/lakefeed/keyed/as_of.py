"""The argument ``asof``: a version number, a time, or a tag."""

from __future__ import annotations

import datetime as dt
from typing import Any

from lakefeed._validate import is_whole
from lakefeed.catalog.version_arguments import check_version
from lakefeed.catalog.versions import Pin
from lakefeed.errors import InvalidArgumentError

FIRST_TIME = 10**12
"""Whole numbers from here on are microseconds since 1970 (this one is 12 days later); smaller ones are versions."""


def check_asof(asof: Any) -> Pin | None:
    """Returns the version that ``asof`` names; None for the newest.

    Args:
        asof: a datetime with a time zone, microseconds since 1970, a version number, a tag, or None.

    Raises:
        InvalidArgumentError: it is none of these.
    """
    try:
        if isinstance(asof, dt.datetime):
            return check_version(None, asof)
        if asof is not None and not isinstance(asof, str) and is_whole(asof) and asof >= FIRST_TIME:
            return check_version(None, int(asof) // 1000)
        return check_version(asof)
    except InvalidArgumentError:
        raise InvalidArgumentError(
            f"asof must be a datetime with a time zone, microseconds since 1970, a version number, a tag or None, got "
            f"{asof!r:.80}"
        ) from None
