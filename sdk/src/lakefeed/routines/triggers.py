"""The triggers that make a routine due. They never decide which rows are read; the stored position does."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from lakefeed.errors import InvalidArgumentError, MissingDependencyError

Outcome: TypeAlias = Literal["success", "failure"]


@dataclass(frozen=True)
class Appended:
    """Due when enough appended rows are unread.

    An overwrite counts with all its rows, and the function gets those that did not exist before.

    Args:
        min_rows: the least number of unread rows.
        min_fraction: the least share of unread rows, relative to the rows read before.
        max_wait: the seconds after which the oldest unread row makes the routine due anyway.

    Raises:
        InvalidArgumentError: an argument is out of range.
    """

    min_rows: int = 1
    min_fraction: float = 0.0
    max_wait: float | None = None

    def __post_init__(self) -> None:
        if self.min_rows < 1 or self.min_fraction < 0 or (self.max_wait is not None and self.max_wait < 0):
            raise InvalidArgumentError(f"{self}: min_rows must be at least 1, min_fraction and max_wait at least 0")


@dataclass(frozen=True)
class Removed:
    """Due when enough rows were removed. The function gets the removed rows with their old values.

    Rows that an upsert replaced count as removed. An overwrite counts with all rows that it replaced, because the rows
    that both have in common are known only after reading both. The function gets the rows that disappeared.

    Args:
        min_rows: the least number of removed rows.
        max_wait: the seconds after which the oldest removed row makes the routine due anyway.

    Raises:
        InvalidArgumentError: an argument is out of range.
    """

    min_rows: int = 1
    max_wait: float | None = None

    def __post_init__(self) -> None:
        if self.min_rows < 1 or (self.max_wait is not None and self.max_wait < 0):
            raise InvalidArgumentError(f"{self}: min_rows must be at least 1, max_wait at least 0")


@dataclass(frozen=True)
class Cron:
    """Due at the times of a cron expression, for the rows that existed at the latest of them.

    If times passed while nothing ran, the routine runs once for all of them.

    Args:
        expression: five fields: minute, hour, day, month, weekday.
        timezone: the name of a time zone.

    Raises:
        InvalidArgumentError: the expression or the time zone cannot be parsed.
        MissingDependencyError: the library ``cronsim`` is not installed.
    """

    expression: str
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        self.latest(dt.datetime.now(dt.UTC))

    def latest(self, now: dt.datetime) -> dt.datetime | None:
        """Returns the latest of its times that is not after ``now``; None if there is none.

        Args:
            now: the time.
        """
        return next(iter(_times(self.expression, _zone(self.timezone), now, reverse=True)), None)

    def next(self, now: dt.datetime) -> dt.datetime | None:
        """Returns the first of its times after ``now``; None if there is none.

        Args:
            now: the time.
        """
        return next(iter(_times(self.expression, _zone(self.timezone), now, reverse=False)), None)


@dataclass(frozen=True)
class Every:
    """Due every ``seconds``, counted from midnight of 1970-01-01 on the clocks of ``timezone``.

    ``Every(86_400, "Europe/Berlin")`` is every midnight there, in summer and in winter.

    Args:
        seconds: the interval.
        timezone: the name of a time zone.

    Raises:
        InvalidArgumentError: the interval is not positive, or the time zone is unknown.
    """

    seconds: float
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        if self.seconds <= 0:
            raise InvalidArgumentError(f"{self}: the seconds must be more than 0")
        _zone(self.timezone)

    def latest(self, now: dt.datetime) -> dt.datetime | None:
        """Returns the latest of its times that is not after ``now``.

        Args:
            now: the time.
        """
        return self._at(now, 0)

    def next(self, now: dt.datetime) -> dt.datetime | None:
        """Returns the first of its times after ``now``.

        Args:
            now: the time.
        """
        return self._at(now, 1)

    def _at(self, now: dt.datetime, ahead: int) -> dt.datetime:
        zone = _zone(self.timezone)
        began = dt.datetime(1970, 1, 1)
        wall = now.astimezone(zone).replace(tzinfo=None)
        steps = int((wall - began).total_seconds() // self.seconds) + ahead
        return (began + dt.timedelta(seconds=steps * self.seconds)).replace(tzinfo=zone).astimezone(dt.UTC)


@dataclass(frozen=True)
class After:
    """Due for the rows that another routine has read ("success"), or on which it just failed ("failure").

    After a success, a source that both read is read as far as the other routine has read it. Another source is read as
    it was when the other routine last wrote. After a failure, exactly the versions of the failed run are read.

    Args:
        routine: the name of the other routine.
        outcome: "success" or "failure".

    Raises:
        InvalidArgumentError: the outcome is neither.
    """

    routine: str
    outcome: Outcome = "success"

    def __post_init__(self) -> None:
        if self.outcome not in ("success", "failure"):
            raise InvalidArgumentError(f'{self}: the outcome must be "success" or "failure"')


@dataclass(frozen=True)
class Manual:
    """Never due. A user starts it, with the versions that it should read."""


Trigger: TypeAlias = Appended | Removed | Cron | Every | After | Manual


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise InvalidArgumentError(
            f"{name!r} is not a time zone; use a name such as 'UTC' or 'Europe/Berlin'"
        ) from None


def _times(expression: str, zone: ZoneInfo, now: dt.datetime, *, reverse: bool) -> list[dt.datetime]:
    try:
        from cronsim import CronSim, CronSimError
    except ImportError as error:
        raise MissingDependencyError(
            "cron triggers need the library cronsim; install it: pip install 'lakefeed[cron]'"
        ) from error
    # Exclusive of where it begins, and blind to seconds: from the next minute backwards it sees this minute.
    local = now.astimezone(zone)
    begin = local.replace(second=0, microsecond=0) + dt.timedelta(minutes=1) if reverse else local
    try:
        time = next(CronSim(expression, begin, reverse=reverse), None)
    except CronSimError as error:
        raise InvalidArgumentError(
            f"{expression!r} is not a cron expression ({error}); it has five fields: minute hour day month weekday"
        ) from None
    return [] if time is None else [time.astimezone(dt.UTC)]
