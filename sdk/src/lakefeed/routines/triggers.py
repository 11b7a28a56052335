"""What makes a routine due. A trigger never decides which rows are read: the stored position does."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from lakefeed.errors import InvalidArgumentError, MissingDependencyError

Outcome: TypeAlias = Literal["success", "failure"]


@dataclass(frozen=True)
class Appended:
    """Due when at least ``min_rows`` rows and ``min_fraction`` of those read before wait to be read.

    ``max_wait`` (seconds): due all the same once the oldest of them has waited so long. An overwrite counts all its
    rows; the function gets those that were not there before.
    """

    min_rows: int = 1
    min_fraction: float = 0.0
    max_wait: float | None = None

    def __post_init__(self) -> None:
        if self.min_rows < 1 or self.min_fraction < 0 or (self.max_wait is not None and self.max_wait < 0):
            raise InvalidArgumentError(f"{self}: min_rows is at least 1, min_fraction and max_wait at least 0")


@dataclass(frozen=True)
class Removed:
    """Due when at least ``min_rows`` rows were removed; the function then gets those rows, as they were.

    ``max_wait`` as for `Appended`. Rows that an upsert replaced count as removed. An overwrite counts all rows that
    there were, as what it has in common with them shows only when both are read; the function gets the rows that went.
    """

    min_rows: int = 1
    max_wait: float | None = None

    def __post_init__(self) -> None:
        if self.min_rows < 1 or (self.max_wait is not None and self.max_wait < 0):
            raise InvalidArgumentError(f"{self}: min_rows is at least 1, max_wait at least 0")


@dataclass(frozen=True)
class Cron:
    """Due for what was there at the latest time that ``expression`` (five fields) names in ``timezone``.

    A time that passed while nothing ran is made up for, once.

    Raises:
        InvalidArgumentError: an expression or a time zone that cannot be read.
        MissingDependencyError: the library ``cronsim`` is not installed.
    """

    expression: str
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        self.latest(dt.datetime.now(dt.UTC))

    def latest(self, now: dt.datetime) -> dt.datetime | None:
        """The latest of its times that is not after ``now``; None where there never was one."""
        return next(iter(_times(self.expression, _zone(self.timezone), now, reverse=True)), None)

    def next(self, now: dt.datetime) -> dt.datetime | None:
        """The first of its times after ``now``."""
        return next(iter(_times(self.expression, _zone(self.timezone), now, reverse=False)), None)


@dataclass(frozen=True)
class Every:
    """Due every ``seconds``, counted from midnight of 1970-01-01 on the clocks of ``timezone``.

    So ``Every(86_400, "Europe/Berlin")`` is every midnight there, in summer as in winter.
    """

    seconds: float
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        if self.seconds <= 0:
            raise InvalidArgumentError(f"{self}: the seconds must be more than 0")
        _zone(self.timezone)

    def latest(self, now: dt.datetime) -> dt.datetime | None:
        """The latest of its times that is not after ``now``."""
        return self._at(now, 0)

    def next(self, now: dt.datetime) -> dt.datetime | None:
        """The first of its times after ``now``."""
        return self._at(now, 1)

    def _at(self, now: dt.datetime, ahead: int) -> dt.datetime:
        zone = _zone(self.timezone)
        began = dt.datetime(1970, 1, 1)
        wall = now.astimezone(zone).replace(tzinfo=None)
        steps = int((wall - began).total_seconds() // self.seconds) + ahead
        return (began + dt.timedelta(seconds=steps * self.seconds)).replace(tzinfo=zone).astimezone(dt.UTC)


@dataclass(frozen=True)
class After:
    """Due for what another routine has read ("success"), or for what it just failed on ("failure").

    After success, of a source that both read: as far as the other has come; of another: what was there when the other
    last wrote. After failure, exactly the versions of the failed run; what else comes is left out.
    """

    routine: str
    outcome: Outcome = "success"

    def __post_init__(self) -> None:
        if self.outcome not in ("success", "failure"):
            raise InvalidArgumentError(f'{self}: the outcome is "success" or "failure"')


@dataclass(frozen=True)
class Manual:
    """Never due; somebody starts it, with the versions that it shall read."""


Trigger: TypeAlias = Appended | Removed | Cron | Every | After | Manual


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise InvalidArgumentError(f"{name!r} is no time zone; use a name such as 'UTC' or 'Europe/Berlin'") from None


def _times(expression: str, zone: ZoneInfo, now: dt.datetime, *, reverse: bool) -> list[dt.datetime]:
    try:
        from cronsim import CronSim, CronSimError
    except ImportError as error:
        raise MissingDependencyError("cron triggers need the library cronsim: pip install 'lakefeed[cron]'") from error
    # Exclusive of where it begins, and blind to seconds: from the next minute backwards it sees this minute.
    local = now.astimezone(zone)
    begin = local.replace(second=0, microsecond=0) + dt.timedelta(minutes=1) if reverse else local
    try:
        found = next(CronSim(expression, begin, reverse=reverse), None)
    except CronSimError as error:
        raise InvalidArgumentError(
            f"{expression!r} is no cron expression ({error}); it has five fields: minute hour day month weekday"
        ) from None
    return [] if found is None else [found.astimezone(dt.UTC)]
