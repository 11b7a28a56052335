"""Times of clocks: `next` and `latest` name the same instants, in order, whatever the clocks of a zone do."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakefeed.routines import Cron, Every

UTC, BERLIN = dt.UTC, "Europe/Berlin"
HOUR = dt.timedelta(hours=1)
# By an hour, by half of one, by a day, at midnight, by two hours, never, in the other half of the year.
ZONES = [
    BERLIN,
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "America/Havana",
    "Antarctica/Troll",
    "UTC",
    "America/Sao_Paulo",
    "Africa/Cairo",
]
MINUTES, HOURS = ["0", "30", "*/15", "20,35", "59", "*"], ["*", "*/2", "2", "0", "1,2,3", "0-23", "23"]
DAYS = ["* * *", "* * 0", "1 * *", "29 10 *", "L * *"]
CRONS = st.builds("{} {} {}".format, st.sampled_from(MINUTES), st.sampled_from(HOURS), st.sampled_from(DAYS))
SECONDS = st.sampled_from([7.5, 60, 900, 1_000, 2_400, 3_600, 5_400, 7_200, 86_400, 604_800])
RULES = st.one_of(st.builds(Cron, CRONS, st.sampled_from(ZONES)), st.builds(Every, SECONDS, st.sampled_from(ZONES)))


def changes(zone: str, year: int) -> list[dt.datetime]:
    """The hours of a year in which the clocks of a zone are set."""
    hours = [dt.datetime(year, 1, 1, tzinfo=UTC) + number * 12 * HOUR for number in range(2 * 366)]
    offsets = [hour.astimezone(ZoneInfo(zone)).utcoffset() for hour in hours]
    return [hour for hour, (before, after) in zip(hours, pairwise(offsets), strict=False) if before != after]


CHANGES = {
    zone: [*changes(zone, 2011), *changes(zone, 2026)] or [dt.datetime(2026, 3, 1, tzinfo=UTC)] for zone in ZONES
}


def times(rule: Cron | Every, start: dt.datetime, number: int) -> list[dt.datetime]:
    found = []
    for _ in range(number):
        following = rule.next(start)
        assert following is not None
        assert following > start
        found.append(start := following)
    return found


@given(RULES, st.data())
def test_next_and_latest_agree_around_every_change(rule: Cron | Every, data: st.DataObject) -> None:
    change = data.draw(st.sampled_from(CHANGES[rule.timezone]))
    start = change + dt.timedelta(seconds=data.draw(st.integers(-100_000, 150_000)))
    for one, other in pairwise(times(rule, start, 4)):
        between = one + (other - one) * data.draw(st.floats(0.01, 0.99))
        assert rule.latest(one) == rule.latest(between) == rule.latest(other - dt.timedelta(microseconds=1)) == one
        assert rule.next(one) == rule.next(between) == other
        assert rule.latest(other) == other


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("rule", [Cron("0 * * * *"), Cron("30 */1 * * *"), Cron("17 0-23 * * *"), Every(3_600)])
def test_an_hourly_rule_is_due_in_every_hour_that_passes(rule: Cron | Every, zone: str) -> None:
    local = type(rule)(rule.expression if isinstance(rule, Cron) else rule.seconds, zone)  # type: ignore[arg-type]
    for change in CHANGES[zone]:
        found = times(local, change - 6 * HOUR, 40)
        assert max(other - one for one, other in pairwise(found)) <= 1.5 * HOUR, "half of one is repeated"
        if zone != "Australia/Lord_Howe":
            assert {other - one for one, other in pairwise(found)} == {HOUR}


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("hour", range(4))
def test_a_daily_rule_is_due_once_a_day(hour: int, zone: str) -> None:
    for change in CHANGES[zone]:
        rule = Cron(f"30 {hour} * * *", zone)
        days = [time.astimezone(ZoneInfo(zone)).date() for time in times(rule, change - 72 * HOUR, 6)]
        if zone != "Pacific/Apia":  # it left out a day, whose time is the beginning of the next one
            assert {other - one for one, other in pairwise(days)} == {dt.timedelta(days=1)}


def shown(rule: Cron | Every, start: str, number: int) -> list[str]:
    zone = ZoneInfo(rule.timezone)
    moment = dt.datetime.fromisoformat(start).replace(tzinfo=zone)
    return [time.astimezone(zone).strftime("%d %H:%M %Z") for time in times(rule, moment, number)]


@pytest.mark.parametrize(
    ("rule", "start", "expected"),
    [
        (Cron("0 * * * *", BERLIN), "2026-10-25T01:30", ["25 02:00 CEST", "25 02:00 CET", "25 03:00 CET"]),
        (Cron("30 2 * * *", BERLIN), "2026-10-24T12:00", ["25 02:30 CEST", "26 02:30 CET"]),
        (Cron("30 2 * * *", BERLIN), "2026-03-28T12:00", ["29 03:00 CEST", "30 02:30 CEST"]),
        (Cron("0,30 2 * * *", BERLIN), "2026-03-28T12:00", ["29 03:00 CEST", "30 02:00 CEST"]),
        (Cron("*/30 * * * *", BERLIN), "2026-03-29T01:10", ["29 01:30 CET", "29 03:00 CEST", "29 03:30 CEST"]),
        (Cron("0 0 * * *", "America/Havana"), "2026-03-07T12:00", ["08 01:00 CDT", "09 00:00 CDT"]),
        (
            Cron("0 * * * *", "Australia/Lord_Howe"),
            "2026-10-04T00:30",
            ["04 01:00 +1030", "04 02:30 +11", "04 03:00 +11"],
        ),
        (Every(86_400, BERLIN), "2026-10-24T12:00", ["25 00:00 CEST", "26 00:00 CET"]),
        (Every(3_600, BERLIN), "2026-10-25T01:30", ["25 02:00 CEST", "25 02:00 CET", "25 03:00 CET"]),
        (Every(7_200, BERLIN), "2026-03-28T23:00", ["29 00:00 CET", "29 03:00 CEST", "29 04:00 CEST"]),
    ],
)
def test_times_around_changes_of_clocks(rule: Cron | Every, start: str, expected: list[str]) -> None:
    assert shown(rule, start, len(expected)) == expected


def test_a_rule_without_another_time_has_no_next() -> None:
    moment = dt.datetime(2026, 1, 1, tzinfo=UTC)
    assert Cron("0 0 30 2 1").next(moment) is not None  # a Monday: a day or a weekday
    assert Every(1e12).next(moment) is None
    assert Every(1e12).latest(moment) == dt.datetime(1970, 1, 1, tzinfo=UTC)
