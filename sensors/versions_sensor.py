"""The sensor that turns new versions into partitions and runs, and follows datasets that appear or disappear."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from dagster import (
    AssetSelection,
    DefaultSensorStatus,
    DeleteDynamicPartitionsRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)

from dataset_assets.asset_checks import recorded_verdicts
from dataset_assets.asset_keys import dataset_key, key_of, versions_of
from lakefeed.errors import LakefeedError
from lakefeed.routines import Routine, pending
from resources.catalog_resource import CatalogResource, TableState
from resources.reload_resource import ReloadResource
from sensors.isolation import log_and_go_on
from sensors.run_requests import (
    RetryPolicy,
    RunQueue,
    TickPlan,
    forget_dataset,
    obsolete_partitions,
    plan_runs,
    reported_partitions,
)
from sensors.sensor_cursor import SensorCursor, fingerprint

TICK_SECONDS = 5
RELOAD_AGAIN_SECONDS = 60.0
DAMAGED_AGAIN_SECONDS = 60.0
# Whether the records of runs were wiped is not part of a dataset's state, so it is examined again after a while, and
# sooner while a routine waits for them.
WIPED_AGAIN_SECONDS = 3_600.0
WAITING_AGAIN_SECONDS = 60.0


def versions_sensor(
    datasets: Collection[str],
    undeclared: Collection[str] = (),
    *,
    routines: Sequence[Routine] = (),
    code: Mapping[str, str] | None = None,
    unloaded: Collection[str] = (),
) -> SensorDefinition:
    """Returns the sensor over the versions of ``datasets``.

    Args:
        datasets: the names of the datasets.
        undeclared: those of them without a declaration.
        routines: the routines, some of which wait for checked versions.
        code: for datasets with checks of their own, the version of the code of these checks.
        unloaded: the names of further datasets, whose declarations do not load. They are left alone.
    """
    checks = code or {}

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
        gone = sorted(set(watch.settled).difference(datasets, unloaded))
        states = {name: fingerprint(heads.get(name), checks.get(name)) for name in [*datasets, *gone]}
        plans: list[TickPlan | DeleteDynamicPartitionsRequest] = []
        for name in watch.unsettled_names(states):
            if runs.under_way(dataset_key(name)):
                continue  # examined again when it has ended
            with log_and_go_on(context, f"dataset {name} is not examined for a minute") as trouble:
                if name not in heads:
                    plans += forget_dataset(context.instance, name)
                    watch.settle(name, states[name])
                    continue
                waiting = [each for each in routines if each.only_checked and name in each.sources]
                todo, wake_at = _plan(runs, catalog, name, checks.get(name, ""), waiting)
                if todo is None:
                    watch.settle(name, states[name], wake_at)
                else:
                    plans.append(todo)
            if trouble:
                watch.settle(name, states[name], time.time() + DAMAGED_AGAIN_SECONDS)
        watch.forget_others(states)
        if set(heads).difference(datasets, unloaded) or set(undeclared).difference(heads):
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


def _plan(
    runs: RunQueue, catalog: CatalogResource, name: str, code: str, waiting: Sequence[Routine]
) -> tuple[TickPlan | None, float | None]:
    """Returns the work of this tick for a dataset, and otherwise when to examine it again."""
    state, asset = catalog.state(name), dataset_key(name)
    if state is None:
        return None, None
    reported = reported_partitions(runs.instance, name, state.table_uuid)
    known = runs.instance.get_dynamic_partitions(str(versions_of(name).name))
    due = {number for number in state.numbers if key_of(number) not in reported}
    unread = {number for routine in waiting for number in _unread_versions(routine, name, state)}
    due |= unread.difference(recorded_verdicts(runs.instance, name, state.table_uuid, unread))
    surplus = obsolete_partitions(name, known, state.versions, lambda: catalog.last_deleted(name, state.table_uuid))
    if not (due or surplus):
        return None, time.time() + (WAITING_AGAIN_SECONDS if unread else _spread(name, WIPED_AGAIN_SECONDS))
    todo = plan_runs(
        runs, asset, name, state.numbers, due, RetryPolicy(state=fingerprint(state.table_uuid, code)), known=known
    )
    return TickPlan([*surplus, *todo.partitions], todo.runs), None


def _unread_versions(routine: Routine, name: str, state: TableState) -> set[int]:
    """Returns the versions of a dataset that a routine has yet to read; none if the routine is in trouble itself."""
    try:
        todo = pending(replace(routine, only_checked=False))
    except LakefeedError:  # the other sensor reports it
        return set()
    spans = [each for each in todo.ranges if each.source == name] if todo else []
    return {version.version for each in spans for version in each.versions}.intersection(state.numbers)


def _spread(name: str, seconds: float) -> float:
    """Returns the seconds, or up to half of them less, so that not all datasets are examined in one tick."""
    return seconds * (1 - int(fingerprint(name)[:4], 16) / 0x1_FFFE)


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
