"""`due` decides whether a routine should run now, from the lake, the clock and other routines. It keeps no state."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from lakefeed.catalog import list_versions
from lakefeed.routines.pending import Pending, Verdicts, VersionRange, pending, position, table_or_none
from lakefeed.routines.routine_declaration import Routine
from lakefeed.routines.routine_history import history
from lakefeed.routines.triggers import After, Appended, Cron, Every, Manual, Removed, Trigger


@dataclass(frozen=True)
class Decision:
    """The decision whether a routine should run now, with the reason.

    Attributes:
        ready: the versions that a run should read now; None if it should not run.
        wake_at: the time (seconds since 1970) at which time alone may make more due; None if it cannot.
        reason: the reason as text.
        after: versions up to this number are left out (see `pending`).
    """

    ready: Pending | None
    wake_at: float | None
    reason: str
    after: int | None = None


class _Clock(Protocol):
    def latest(self, now: dt.datetime) -> dt.datetime | None: ...
    def next(self, now: dt.datetime) -> dt.datetime | None: ...


def due(
    routine: Routine,
    *,
    now: dt.datetime | None = None,
    others: Iterable[Routine] = (),
    failures: Mapping[str, tuple[int, int]] | None = None,
    verdicts: Verdicts | None = None,
) -> Decision:
    """Returns whether a routine should run now, and which versions it should read.

    Args:
        routine: the routine.
        now: the time. None is the current time.
        others: the routines that `After` may name.
        failures: the first and the last version of the last run of each routine whose last run failed.
        verdicts: as in `pending`.

    Raises:
        StateMismatchError, InvalidArgumentError: as in `pending`.
    """
    moment = now or dt.datetime.fromtimestamp(time.time(), dt.UTC)
    todo = pending(routine, verdicts=verdicts)
    if todo is None:
        return Decision(None, None, "nothing to read")
    if any(each.begin for each in todo.ranges):
        return Decision(todo, None, "a version is partly read")
    named = {other.name: other for other in others}
    decisions = [_decide(trigger, routine, todo, moment, named, failures or {}) for trigger in routine.triggers]
    wake_at = min((each.wake_at for each in decisions if each.wake_at is not None), default=None)
    best = max(decisions, key=lambda each: each.ready.rows if each.ready else -1)
    return replace(best, wake_at=wake_at) if best.ready else Decision(None, wake_at, decisions[0].reason)


def _decide(
    trigger: Trigger,
    routine: Routine,
    todo: Pending,
    now: dt.datetime,
    named: Mapping[str, Routine],
    failures: Mapping[str, tuple[int, int]],
) -> Decision:
    match trigger:
        case Appended() | Removed():
            return _decide_by_rows(trigger, todo, now)
        case Cron() | Every():
            return _decide_by_clock(trigger, todo, now)
        case After(outcome="failure"):
            return _decide_after_failure(todo, failures.get(trigger.routine), trigger.routine)
        case After():
            return _decide_after_success(routine, todo, named.get(trigger.routine), trigger.routine, now)
        case Manual():
            return Decision(None, None, "started manually only")


def _decide_by_rows(trigger: Appended | Removed, todo: Pending, now: dt.datetime) -> Decision:
    least = trigger.min_rows
    if isinstance(trigger, Appended) and trigger.min_fraction:
        least = max(least, round(trigger.min_fraction * sum(map(_rows_read, todo.ranges))))
    # What is only left out need not wait; it is recorded with what comes next.
    if todo.rows >= least:
        return Decision(todo, None, f"{todo.rows} rows wait")
    if trigger.max_wait is None or not todo.rows:
        return Decision(None, None, f"{todo.rows} rows wait, {least} are needed")
    oldest = min(version.timestamp_ms for version in todo.versions) / 1000
    # So far from now, either way: rows that a clock has stamped that was ahead have waited, nobody knows how long.
    if abs(now.timestamp() - oldest) >= trigger.max_wait:
        return Decision(todo, None, f"rows have waited for {trigger.max_wait:g} s")
    return Decision(None, oldest + trigger.max_wait, f"{todo.rows} rows wait, {least} are needed")


def _decide_by_clock(trigger: _Clock, todo: Pending, now: dt.datetime) -> Decision:
    latest, following = trigger.latest(now), trigger.next(now)
    wake_at = following.timestamp() if following else None
    bounded = [each.as_of(latest.timestamp() * 1000, now.timestamp() * 1000) for each in todo.ranges] if latest else []
    ready = _restrict(todo, bounded)
    return Decision(ready, wake_at, f"rows of {latest}" if ready else f"waits for {following}")


def _decide_after_success(
    routine: Routine, todo: Pending, other: Routine | None, name: str, now: dt.datetime
) -> Decision:
    if other is None:
        return Decision(None, None, f"waits for routine {name!r}, which is unknown")
    shared = other.sources[0] if other.sources[0] in routine.sources else None
    at = position(other)
    if shared is not None:
        done = [at.version if at and at.table_uuid == each.table_uuid else 0 for each in todo.ranges]
        bounded = [
            each.up_to(last) if each.source == shared else each for each, last in zip(todo.ranges, done, strict=True)
        ]
        if not any(each.versions for each in bounded if each.source == shared):
            bounded = []
    else:
        finished = _last_written(other)
        bounded = [each.as_of(finished, now.timestamp() * 1000) for each in todo.ranges] if finished is not None else []
    ready = _restrict(todo, bounded)
    return Decision(ready, None, f"routine {name!r} has come so far" if ready else f"waits for routine {name!r}")


def _decide_after_failure(todo: Pending, failed: tuple[int, int] | None, name: str) -> Decision:
    ready = _restrict(todo, [todo.ranges[0].up_to(failed[1])]) if failed else None
    if failed is None or ready is None or (ready.ranges[0].to_version or 0) < failed[0]:
        return Decision(None, None, f"routine {name!r} has not failed on what is not read yet")
    return Decision(ready, None, f"routine {name!r} failed on v{failed[0]} to v{failed[1]}", after=failed[0] - 1)


def _restrict(todo: Pending, ranges: list[VersionRange]) -> Pending | None:
    return replace(todo, ranges=tuple(ranges)) if any(each.versions for each in ranges) else None


def _rows_read(source_range: VersionRange) -> int:
    """Returns the number of rows that the source had when the routine last read it."""
    if source_range.position is None or not source_range.versions:
        return 0
    first = source_range.versions[0]
    return max(0, first.total_records - first.added_records)


def _last_written(routine: Routine) -> float | None:
    done = history(routine)
    table = table_or_none(routine.target)
    if not done or table is None:
        return None
    newest = done[-1].output_version
    return next((float(v.timestamp_ms) for v in list_versions(table) if v.version == newest), None)
