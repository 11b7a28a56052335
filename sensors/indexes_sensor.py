"""The sensor that refreshes declared indexes when their tables have new versions."""

from collections.abc import Sequence
from functools import cache

from dagster import (
    AssetSelection,
    DefaultSensorStatus,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)

from dataset_assets.index import IndexSpec, index_key, indexed_version
from resources.catalog_resource import CatalogResource
from sensors.isolation import log_and_go_on
from sensors.run_requests import RetryPolicy, RunQueue
from sensors.sensor_cursor import SensorCursor, fingerprint
from sensors.versions_sensor import TICK_SECONDS


def indexes_sensor(indexes: Sequence[IndexSpec]) -> SensorDefinition:
    """Returns the sensor that refreshes ``indexes``. The index itself tells which version it has."""
    named = {each.name: each for each in indexes}

    @sensor(
        name="indexes",
        description="Brings each declared index up to date when its table has a new version.",
        asset_selection=AssetSelection.assets(*map(index_key, named)),
        minimum_interval_seconds=TICK_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
    )
    def refresh_indexes(context: SensorEvaluationContext, catalog: CatalogResource) -> SensorResult:
        runs, watch, heads = RunQueue.of(context.instance), SensorCursor.parse(context.cursor), catalog.heads()
        states = {name: fingerprint(each.state, heads.get(each.on)) for name, each in named.items()}
        requests, tables = [], cache(catalog.state)  # many indexes may be of one table
        for name in watch.unsettled_names(states):
            key = index_key(name)
            if runs.is_full:
                break  # the others are examined when runs have ended
            if runs.under_way(key):
                continue  # examined again when it has ended
            with log_and_go_on(context, f"index {name} is not refreshed"):
                table = tables(named[name].on)
                newest = table.numbers[-1] if table and table.numbers else None
                if table is None or newest is None or indexed_version(named[name]) == newest:
                    watch.settle(name, states[name])
                    continue
                retries = RetryPolicy(state=fingerprint(named[name].state, table.table_uuid))
                request = runs.request(key, f"{key.to_user_string()}:v{newest}", dict(named[name].tags), retries)
                requests += [] if request is None else [request]
        watch.forget_others(states)
        return SensorResult(run_requests=requests, cursor=watch.dump())

    return refresh_indexes
