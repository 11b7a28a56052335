"""The triggers that make a routine due. They never decide which rows are read; the stored position does."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, takewhile
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from lakefeed.errors import InvalidArgumentError, MissingDependencyError
from lakefeed.routines.clock_times import ClockTimes

MINUTE_SECONDS = 60
HOUR_SECONDS = 3_600
HOURS_OF_DAY = 24
BEGINNING = dt.datetime(1970, 1, 1)
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

    If times passed while nothing ran, the routine runs once for all of them. When the clocks are set forward or back, a
    rule for every hour is due in every hour that passes, and any other time is due once.

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
        return _cron_times(self.expression, self.timezone).latest(now)

    def next(self, now: dt.datetime) -> dt.datetime | None:
        """Returns the first of its times after ``now``; None if there is none.

        Args:
            now: the time.
        """
        return _cron_times(self.expression, self.timezone).next(now)


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
        return self._times().latest(now)

    def next(self, now: dt.datetime) -> dt.datetime | None:
        """Returns the first of its times after ``now``.

        Args:
            now: the time.
        """
        return self._times().next(now)

    def _times(self) -> ClockTimes:
        # The clocks of all zones show the same seconds.
        zone = _zone(self.timezone if self.seconds >= MINUTE_SECONDS else "UTC")
        return ClockTimes(self._after, self._until, zone, in_every_hour=self.seconds <= HOUR_SECONDS)

    def _after(self, wall: dt.datetime) -> Iterator[dt.datetime]:
        times = takewhile(lambda time: time < dt.datetime.max, map(self._at, count(self._steps(wall))))
        return (time for time in times if time > wall)

    def _until(self, wall: dt.datetime) -> Iterator[dt.datetime]:
        times = takewhile(lambda time: time > dt.datetime.min, map(self._at, count(self._steps(wall) + 1, -1)))
        return (time for time in times if time <= wall)

    def _steps(self, wall: dt.datetime) -> int:
        return int((wall - BEGINNING).total_seconds() // self.seconds)

    def _at(self, steps: int) -> dt.datetime:
        try:
            return BEGINNING + dt.timedelta(seconds=steps * self.seconds)
        except OverflowError:  # after or before all times that there are
            return dt.datetime.max if steps > 0 else dt.datetime.min


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


def _cron_times(expression: str, timezone: str) -> ClockTimes:
    try:
        from cronsim import CronSim, CronSimError
    except ImportError as error:
        raise MissingDependencyError(
            "cron triggers need the library cronsim; install it: pip install 'lakefeed[cron]'"
        ) from error

    def after(wall: dt.datetime) -> Iterator[dt.datetime]:
        return CronSim(expression, wall.replace(microsecond=0))

    def until(wall: dt.datetime) -> Iterator[dt.datetime]:
        # It is exclusive of where it begins.
        return CronSim(expression, wall.replace(microsecond=0) + dt.timedelta(seconds=1), reverse=True)

    try:
        hours = CronSim(expression, BEGINNING).hours
    except CronSimError as error:
        raise InvalidArgumentError(
            f"{expression!r} is not a cron expression ({error}); it has five fields: minute hour day month weekday"
        ) from None
    return ClockTimes(after, until, _zone(timezone), in_every_hour=len(hours) == HOURS_OF_DAY)
