"""A tick costs what changed, not what there is; a burst is worked off in order, bounded tick by tick."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from dagster import AssetMaterialization, DagsterInstance
from sqlalchemy import event

from dataset_assets.asset_keys import dataset_key, key_of
from definitions import catalog_datasets
from lakefeed.catalog import Lake
from lakefeed.catalog.embedded_tables import EmbeddedTables
from lakefeed.routines import Routine
from sensors.sensor_cursor import SensorCursor
from tests.orchestration.daemon import Dagster, write

pytestmark = pytest.mark.usefixtures("lake")
ROUTINES = [Routine(f"r{n}", lambda rows: rows, f"d{n}", f"out{n}") for n in range(2)]


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as fresh:
        yield fresh


@contextmanager
def counted() -> Iterator[list[str]]:
    queries: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        queries.append(statement)

    def load(tables: EmbeddedTables, identifier: tuple[str, ...]) -> Any:
        queries.append(f"table {identifier}")
        return real(tables, identifier)

    engine, real = Lake.current().catalog.engine, EmbeddedTables.load_table  # type: ignore[attr-defined]
    event.listen(engine, "before_cursor_execute", note)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(EmbeddedTables, "load_table", load)
            yield queries
    finally:
        event.remove(engine, "before_cursor_execute", note)


@pytest.mark.live
def test_a_quiet_tick_is_one_query_of_the_catalog(instance: DagsterInstance) -> None:
    for number in range(6):
        write(number, to=f"d{number}")
    dagster = Dagster(instance, *ROUTINES)
    dagster.work()
    known = catalog_datasets()
    for sensor in ("versions", "routines"):
        with counted() as queries:
            assert dagster.tick(sensor, known) == []
        assert len(queries) == 1
    write(1, to="d5")
    with counted() as queries:
        asked = dagster.tick("versions", known)
    assert [request.asset_selection for request in asked] == [[dataset_key("d5")]]
    assert len(queries) == 2, "only what changed is looked at"


@pytest.mark.live
def test_a_burst_is_worked_off_in_order_tick_by_tick(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensors.run_requests.VERSIONS_PER_TICK", 10)
    monkeypatch.setattr("sensors.run_requests.VERSIONS_PER_RUN", 5)
    for number in range(32):
        write(number)
    dagster, seen = Dagster(instance), []
    while asked := dagster.tick("versions"):
        [request] = asked
        first, last = (request.tags[f"dagster/asset_partition_range_{end}"] for end in ("start", "end"))
        fresh = [key_of(n) for n in range(int(first[1:]), int(last[1:]) + 1)]
        assert len(fresh) <= 5
        seen += fresh
        for key in fresh:
            instance.report_runless_asset_event(AssetMaterialization(dataset_key("photos"), partition=key))
    assert seen == list(dagster.partitions()) == [key_of(n) for n in range(1, 33)]


def test_a_tick_that_runs_out_of_time_is_gone_on_with() -> None:
    watch, states = SensorCursor(), dict.fromkeys("abcd", "1")
    found = watch.unsettled_names(states)
    assert next(found) == "a"
    watch.first = "c"
    assert list(SensorCursor.parse(watch.dump()).unsettled_names(states)) == ["c", "d", "a", "b"]


def test_the_budget_ends_a_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sensors.sensor_cursor.BUDGET_SECONDS", -1)
    watch = SensorCursor()
    assert list(watch.unsettled_names({"a": "1", "b": "1"})) == []
    assert watch.first == "a"


def test_what_is_settled_wakes_when_it_changes_or_when_told() -> None:
    watch = SensorCursor()
    watch.settle("a", "1")
    watch.settle("b", "1", until=100.0)
    again = SensorCursor.parse(watch.dump())
    assert list(again.unsettled_names({"a": "1", "b": "1"}, now=99)) == []
    assert list(again.unsettled_names({"a": "2", "b": "1"}, now=99)) == ["a"]
    assert list(again.unsettled_names({"a": "1", "b": "1"}, now=100)) == ["b"]
