"""The times of a rule on the clocks of a time zone, as instants that every change of these clocks leaves in order.

A rule gives times of day without a zone. Most of them are one instant. When the clocks are set back, an hour comes
twice; when they are set forward, an hour is missing:

- A rule with times in every hour (``0 * * * *``) has them in every hour that passes: in both of the equal ones.
- Any other rule (``30 2 * * *``) has each of its times once: the first of two, or the end of the missing hour.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from zoneinfo import ZoneInfo

# No clocks are set by more than a day.
NEAR = dt.timedelta(hours=26)
SECOND = dt.timedelta(seconds=1)


@dataclass(frozen=True)
class ClockTimes:
    """The instants of a rule.

    Attributes:
        after: yields the times of the rule after a time, ascending, all without a zone.
        until: yields the times of the rule that are not after a time, descending.
        zone: the time zone.
        in_every_hour: the rule has times in every hour.
    """

    after: Callable[[dt.datetime], Iterator[dt.datetime]]
    until: Callable[[dt.datetime], Iterator[dt.datetime]]
    zone: ZoneInfo
    in_every_hour: bool

    def next(self, now: dt.datetime) -> dt.datetime | None:
        """Returns the first instant after ``now``; None if there is none."""
        moment = now.astimezone(dt.UTC)
        best: dt.datetime | None = None
        for wall in self.after(_naive(moment) + min(self._offsets(moment))):
            if best is not None and _naive(best) + max(self._offsets(best)) < wall:
                break
            later = [each for each in self._instants(wall) if each > moment]
            best = min([*later, *([best] if best else [])], default=None)
        return best

    def latest(self, now: dt.datetime) -> dt.datetime | None:
        """Returns the latest instant that is not after ``now``; None if there is none."""
        moment = now.astimezone(dt.UTC)
        best: dt.datetime | None = None
        for wall in self.until(_naive(moment) + max(self._offsets(moment))):
            if best is not None and _naive(best) + min(self._offsets(best)) > wall:
                break
            earlier = [each for each in self._instants(wall) if each <= moment]
            best = max([*earlier, *([best] if best else [])], default=None)
        return best

    def _instants(self, wall: dt.datetime) -> list[dt.datetime]:
        """Returns the instants of a time of the rule, ascending."""
        first, second = (wall.replace(tzinfo=self.zone, fold=fold).astimezone(dt.UTC) for fold in (0, 1))
        if first < second and self.in_every_hour:
            return [first, second]
        if first > second and not self.in_every_hour:
            return [self._change_between(second, first)]
        # In a missing hour this is as long after the time before as if the clocks had not been set.
        return [first]

    def _change_between(self, start: dt.datetime, end: dt.datetime) -> dt.datetime:
        """Returns the first instant after ``start`` at which the clocks show what they show at ``end``."""
        offset = self._offset(end)
        seconds = range(1, round((end - start).total_seconds()) + 1)
        index = bisect_left(seconds, True, key=lambda number: self._offset(start + SECOND * number) == offset)
        return start + SECOND * seconds[index]

    def _offsets(self, moment: dt.datetime) -> tuple[dt.timedelta, ...]:
        return tuple(self._offset(each) for each in (moment - NEAR, moment, moment + NEAR))

    def _offset(self, moment: dt.datetime) -> dt.timedelta:
        return moment.astimezone(self.zone).utcoffset() or dt.timedelta()


def _naive(moment: dt.datetime) -> dt.datetime:
    return moment.replace(tzinfo=None)
