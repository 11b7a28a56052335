"""What is due is a function of the lake and the clock."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.errors import InvalidArgumentError
from lakefeed.routines import (
    After,
    Appended,
    Cron,
    Decision,
    Every,
    Manual,
    Removed,
    Routine,
    Trigger,
    due,
    run_routine,
    run_versions,
    skip,
)

SECOND = dt.timedelta(seconds=1)


def same(rows: Dataset) -> Dataset:
    return rows


COPY = Routine("copy", same, "numbers", "copies")


def add(rows: int = 1, to: str = "numbers") -> dt.datetime:
    """Appends so many rows; the time of the commit."""
    made = Dataset.from_dict({"x": list(range(rows))}, schema=pa.schema({"x": pa.int64()}))
    written = made.append_to(to) if Dataset.exists(to) else made.save(to)
    return dt.datetime.fromtimestamp(written.list_versions()[0].timestamp_ms / 1000, dt.UTC)


def decide(*when: Trigger, **given: object) -> Decision:
    return due(replace(COPY, when=when), **given)


def reads(decision: Decision) -> list[int]:
    return [version.version for version in decision.ready.versions] if decision.ready else []


@pytest.mark.usefixtures("lake")
class TestDue:
    def test_nothing_is_not_due(self) -> None:
        assert decide(Appended()).ready is None
        add()
        run_routine(COPY)
        assert decide(Appended()) == Decision(None, None, "nothing to read")

    def test_so_many_rows(self) -> None:
        add(2)
        assert reads(decide(Appended(min_rows=3))) == []
        add(1)
        assert reads(decide(Appended(min_rows=3))) == [1, 2]

    def test_a_fraction_of_what_was_read(self) -> None:
        add(10)
        assert reads(decide(Appended(min_fraction=0.5))) == [1]
        run_routine(COPY)
        add(4)
        assert reads(decide(Appended(min_fraction=0.5))) == []
        add(1)
        assert reads(decide(Appended(min_fraction=0.5))) == [2, 3]

    def test_rows_wait_no_longer_than_asked(self) -> None:
        first = add()
        add()
        trigger = Appended(min_rows=100, max_wait=60)
        early = decide(trigger, now=first + 59 * SECOND)
        assert (reads(early), early.wake_at) == ([], first.timestamp() + 60)
        assert reads(decide(trigger, now=first + 60 * SECOND)) == [1, 2]

    def test_removed_rows(self) -> None:
        add(3)
        assert reads(decide(Removed())) == []
        Dataset("numbers").delete_rows("x = 1")
        assert reads(decide(Removed(min_rows=2))) == []
        assert reads(decide(Removed())) == [2]

    def test_by_hand_is_never_due(self) -> None:
        add()
        assert reads(decide(Manual())) == []

    def test_any_of_several_triggers(self) -> None:
        add()
        assert reads(decide(Appended(min_rows=10), Every(1e-3))) == [1]

    def test_the_clock_names_what_was_there_then(self) -> None:
        first = add()
        trigger = Every(3600)
        following = trigger.next(first)
        assert following is not None
        waiting = decide(trigger, now=first)
        assert (reads(waiting), waiting.wake_at) == ([], following.timestamp())
        assert reads(decide(trigger, now=following)) == [1]
        assert reads(decide(trigger, now=following + 50 * 3600 * SECOND)) == [1], "made up for after a pause"

    def test_what_came_after_the_time_waits_for_the_next(self) -> None:
        every, late = Every(0.01), add()
        while every.latest(late) == late or Dataset("numbers").version < 2:
            late = add()
        assert reads(decide(every, now=late)) == list(range(1, Dataset("numbers").version))

    def test_what_a_clock_stamped_that_was_ahead_holds_up_nothing(self) -> None:
        moment = add()
        for trigger in (Every(3600), Appended(min_rows=100, max_wait=60)):
            assert reads(decide(trigger, now=moment - 24 * 3600 * SECOND)) == [1]

    def test_a_version_half_read_is_due_whatever_the_trigger(self) -> None:
        add(4)
        list(run_versions(replace(COPY, max_rows_per_run=1), max_rows=1))
        assert reads(decide(Appended(min_rows=100))) == [1]

    def test_after_another_routine_as_far_as_it_has_come(self) -> None:
        add()
        add()
        other = Routine("other", same, "numbers", "others")
        assert reads(decide(After("other"), others=[other])) == []
        run_routine(other, up_to=1)
        assert reads(decide(After("other"), others=[other])) == [1]
        run_routine(other)
        assert reads(decide(After("other"), others=[other])) == [1, 2]
        assert decide(After("other")).reason == "waits for routine 'other', which is unknown"

    def test_after_a_routine_on_another_source(self) -> None:
        other = Routine("other", same, "letters", "others")
        add()
        assert reads(decide(After("other"), others=[other])) == []
        add(to="letters")
        run_routine(other)
        later = add()
        while later <= dt.datetime.fromtimestamp(Dataset("others").list_versions()[0].timestamp_ms / 1000, dt.UTC):
            later = add()
        found = reads(decide(After("other"), others=[other]))
        assert found[0] == 1
        assert Dataset("numbers").version not in found

    def test_after_a_failure_exactly_what_it_failed_on(self) -> None:
        for _ in range(4):
            add()
        trigger = After("other", "failure")
        assert reads(decide(trigger)) == []
        found = decide(trigger, failures={"other": (2, 3)})
        assert (reads(found), found.after) == ([1, 2, 3], 1)
        list(run_versions(COPY, after=1, up_to=3))
        assert Dataset("copies").count() == 2
        assert reads(decide(trigger, failures={"other": (2, 3)})) == []

    def test_a_skipped_version_is_not_due(self) -> None:
        add()
        skip(replace(COPY, schema=pa.schema({"x": pa.int64()})), 1, "why not")
        assert reads(decide(Appended())) == []


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("trigger", "now", "latest", "following"),
    [
        (Every(3600), "2026-03-01T06:10", "2026-03-01T06:00", "2026-03-01T07:00"),
        (Every(86_400, "Europe/Berlin"), "2026-07-01T12:00", "2026-06-30T22:00", "2026-07-01T22:00"),
        (Every(86_400, "Europe/Berlin"), "2026-01-01T12:00", "2025-12-31T23:00", "2026-01-01T23:00"),
    ],
)
def test_every(trigger: Every, now: str, latest: str, following: str) -> None:
    assert (trigger.latest(at(now)), trigger.next(at(now))) == (at(latest), at(following))


@pytest.mark.parametrize(
    ("expression", "zone", "now", "latest", "following"),
    [
        ("0 6 * * *", "UTC", "2026-03-01T06:00:30", "2026-03-01T06:00", "2026-03-02T06:00"),
        ("0 6 * * *", "UTC", "2026-03-01T05:59:59", "2026-02-28T06:00", "2026-03-01T06:00"),
        ("*/5 * * * *", "UTC", "2026-03-01T00:00:00", "2026-03-01T00:00", "2026-03-01T00:05"),
        ("0 6 * * *", "Europe/Berlin", "2026-07-01T04:30", "2026-07-01T04:00", "2026-07-02T04:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-03-29T12:00", "2026-03-29T01:00", "2026-03-30T00:30"),
    ],
)
def test_cron(expression: str, zone: str, now: str, latest: str, following: str) -> None:
    pytest.importorskip("cronsim")
    trigger = Cron(expression, zone)
    assert (trigger.latest(at(now)), trigger.next(at(now))) == (at(latest), at(following))


@pytest.mark.parametrize(("expression", "zone"), [("6 o'clock", "UTC"), ("61 * * * *", "UTC"), ("* * * * *", "Mars")])
def test_what_cannot_be_read_is_refused_where_it_is_declared(expression: str, zone: str) -> None:
    pytest.importorskip("cronsim")
    with pytest.raises(InvalidArgumentError):
        Cron(expression, zone)
