"""Which version callers mean: a number, a tag or a time, checked before anything is looked up."""

from __future__ import annotations

import datetime as dt
import math

from lakefeed._validate import is_whole
from lakefeed.catalog.version_tags import is_possible_tag
from lakefeed.catalog.versions import AsOf, Pin
from lakefeed.errors import InvalidArgumentError


def check_version(given: int | str | None, as_of: dt.datetime | int | None = None) -> Pin | None:
    """Returns a version number, a tag, a time, or None."""
    if as_of is not None:
        if given is not None:
            raise InvalidArgumentError(
                f"version={given!r} and as_of={as_of!r} both say which version is meant: give one"
            )
        return AsOf(_milliseconds(as_of))
    if isinstance(given, str) and is_possible_tag(given):
        return given
    if given is not None and (isinstance(given, str) or not is_whole(given) or given < 1):
        raise InvalidArgumentError(
            f"version={given!r}: versions are the whole numbers 1, 2, 3, … or tags; None is the newest"
        )
    return None if given is None else int(given)


def check_restore_version(given: int | str) -> Pin:
    """Returns the version to restore, by number or tag."""
    pin = check_version(given)
    if pin is None:
        raise InvalidArgumentError("restore(None): say which version, by number or tag")
    return pin


def _milliseconds(given: dt.datetime | int) -> int:
    """Returns a time in milliseconds since 1970 (UTC)."""
    if isinstance(given, dt.datetime):
        if given.tzinfo is None:
            raise InvalidArgumentError(
                f"as_of={given!r} has no time zone, so which moment is meant cannot be told: give it one, such as "
                "datetime.timezone.utc"
            )
        return math.floor(given.timestamp() * 1000)
    if not is_whole(given) or given < 0:
        raise InvalidArgumentError(f"as_of={given!r}: give a datetime with a time zone, or milliseconds since 1970")
    return int(given)
