"""The sensor that turns new versions into partitions and runs, and follows datasets that appear or disappear."""

import time
from collections.abc import Collection, Mapping

from dagster import (
    AssetSelection,
    DefaultSensorStatus,
    DeleteDynamicPartitionsRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)

from dataset_assets.asset_keys import dataset_key, key_of, versions_of
from lakefeed.errors import FileError
from resources.catalog_resource import CatalogResource
from resources.reload_resource import ReloadResource
from sensors.run_requests import RunQueue, TickPlan, forget_dataset, obsolete_partitions, plan_runs, reported_partitions
from sensors.sensor_cursor import SensorCursor, fingerprint

TICK_SECONDS = 5
RELOAD_AGAIN_SECONDS = 60.0
DAMAGED_AGAIN_SECONDS = 60.0


def versions_sensor(datasets: Collection[str], undeclared: Collection[str] = ()) -> SensorDefinition:
    """Returns the sensor over the versions of ``datasets``. ``undeclared`` are the datasets without a declaration."""

    @sensor(
        name="versions",
        description="New versions of the datasets become partitions, and runs that profile and check them.",
        asset_selection=AssetSelection.assets(*map(dataset_key, datasets)),
        minimum_interval_seconds=TICK_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
    )
    def versions(context: SensorEvaluationContext, catalog: CatalogResource, reload: ReloadResource) -> SensorResult:
        runs, watch, heads = RunQueue.of(context.instance), SensorCursor.parse(context.cursor), catalog.heads()
        runs.close_dead()
        states = {
            name: fingerprint(heads.get(name)) for name in [*datasets, *sorted(set(watch.settled) - set(datasets))]
        }
        plans: list[TickPlan | DeleteDynamicPartitionsRequest] = []
        for name in watch.unsettled_names(states):
            if runs.under_way(dataset_key(name)):
                continue  # examined again when it has ended
            if name not in heads:
                plans += forget_dataset(context.instance, name)
                watch.settle(name, states[name])
                continue
            try:
                todo = _plan(runs, catalog, name)
            except FileError as error:  # a damaged dataset does not stop the others
                context.log.error("versions of %s are not examined for a minute: %s", name, error)
                watch.settle(name, states[name], time.time() + DAMAGED_AGAIN_SECONDS)
                continue
            if todo is None:
                watch.settle(name, states[name])
            else:
                plans.append(todo)
        watch.forget_others(states)
        if set(heads).difference(datasets) or set(undeclared).difference(heads):
            _request_reload(context, watch, heads, reload)
        dataset_plans = [each for each in plans if isinstance(each, TickPlan)]
        deletions = [each for each in plans if isinstance(each, DeleteDynamicPartitionsRequest)]
        return SensorResult(
            dynamic_partitions_requests=[
                *deletions,
                *(request for each in dataset_plans for request in each.partitions),
            ],
            run_requests=[run for each in dataset_plans for run in each.runs],
            cursor=watch.dump(),
        )

    return versions


def _plan(runs: RunQueue, catalog: CatalogResource, name: str) -> TickPlan | None:
    """Returns the work of this tick for a dataset; None if there is none."""
    state, asset = catalog.state(name), dataset_key(name)
    if state is None:
        return None
    reported = reported_partitions(runs.instance, name, state.table_uuid)
    known = runs.instance.get_dynamic_partitions(str(versions_of(name).name))
    due = {number for number in state.numbers if key_of(number) not in reported}
    surplus = obsolete_partitions(name, known, state.versions, lambda: catalog.last_deleted(name, state.table_uuid))
    if not (due or surplus):
        return None
    todo = plan_runs(runs, asset, name, state.numbers, due, known=known)
    return TickPlan([*surplus, *todo.partitions], todo.runs)


def _request_reload(
    context: SensorEvaluationContext, watch: SensorCursor, heads: Mapping[str, str], reload: ReloadResource
) -> None:
    """Requests a reload once for each set of datasets, and again after a while if that did not help."""
    names, now = fingerprint(*sorted(heads)), time.time()
    if watch.reload and watch.reload[0] == names and abs(now - watch.reload[1]) < RELOAD_AGAIN_SECONDS:
        return
    watch.reload = (names, now)
    requested = reload.request()
    context.log.info(
        "the set of datasets has changed: %s",
        "the code location is reloaded" if requested else "reload the code location",
    )
