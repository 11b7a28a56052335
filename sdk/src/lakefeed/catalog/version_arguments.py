"""Checks of the arguments that name a version: a number, a tag or a time."""

from __future__ import annotations

import datetime as dt
import math
import re

from lakefeed._validate import is_whole
from lakefeed.catalog.versions import AsOf, Pin
from lakefeed.errors import InvalidArgumentError

VERSION_LIKE = re.compile(r"v?\d+")
"""Texts that name a version by its number. They are not tags."""


def check_version(version: int | str | None, as_of: dt.datetime | int | None = None) -> Pin | None:
    """Returns a version number, a tag, a time, or None."""
    if as_of is not None:
        if version is not None:
            raise InvalidArgumentError(f"pass either version or as_of, got version={version!r} and as_of={as_of!r}")
        return AsOf(_milliseconds(as_of))
    if isinstance(version, str) and _is_possible_tag(version):
        return version
    if version is not None and (isinstance(version, str) or not is_whole(version) or version < 1):
        raise InvalidArgumentError(
            f"version must be a positive integer, a tag, or None for the newest, got {version!r}"
        )
    return None if version is None else int(version)


def check_restore_version(version: int | str) -> Pin:
    """Returns the version to restore, by number or tag."""
    pin = check_version(version)
    if pin is None:
        raise InvalidArgumentError("restore() needs a version number or a tag, got None")
    return pin


def _is_possible_tag(name: str) -> bool:
    """Returns whether a tag of that name may exist. Other programs allow more names than lakefeed."""
    return name.strip() != "" and VERSION_LIKE.fullmatch(name.strip()) is None


def _milliseconds(as_of: dt.datetime | int) -> int:
    """Returns a time in milliseconds since 1970 (UTC)."""
    if isinstance(as_of, dt.datetime):
        if as_of.tzinfo is None:
            raise InvalidArgumentError(f"as_of={as_of!r} has no time zone; give it one, such as datetime.timezone.utc")
        return math.floor(as_of.timestamp() * 1000)
    if not is_whole(as_of) or as_of < 0:
        raise InvalidArgumentError(
            f"as_of must be a datetime with a time zone or milliseconds since 1970, got {as_of!r}"
        )
    return int(as_of)
