"""The sensor that starts routines with unread rows. The stored position alone decides which rows a run reads."""

import time
from collections.abc import Sequence
from dataclasses import replace

from dagster import (
    AssetSelection,
    DefaultSensorStatus,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)

from dataset_assets.asset_keys import routine_key
from dataset_assets.code_version import code_version
from dataset_assets.routine import verdicts_of
from lakefeed.routines import After, Decision, Pending, Routine, due, pending, position, with_neighbours
from resources.catalog_resource import CatalogResource
from sensors.isolation import log_and_go_on
from sensors.run_requests import RetryPolicy, RunQueue, TickPlan, last_failures, plan_runs, unreported_versions
from sensors.sensor_cursor import SensorCursor, fingerprint
from sensors.versions_sensor import TICK_SECONDS

TROUBLE_AGAIN_SECONDS = 60.0
MAX_RUNTIME_TAG = "dagster/max_runtime"


def routines_sensor(routines: Sequence[Routine]) -> SensorDefinition:
    """Returns the sensor that starts ``routines``."""
    named = {routine.name: routine for routine in with_neighbours(routines)}
    code = {routine.name: code_version(routine) for routine in routines}

    @sensor(
        name="routines",
        description="Starts each routine when its source has rows that it has not read.",
        asset_selection=AssetSelection.assets(*(routine_key(routine.name) for routine in routines)),
        minimum_interval_seconds=TICK_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
    )
    def start_routines(context: SensorEvaluationContext, catalog: CatalogResource) -> SensorResult:
        runs, watch, heads = RunQueue.of(context.instance), SensorCursor.parse(context.cursor), catalog.heads()
        states = {
            name: fingerprint(code[name], *map(heads.get, _relevant_datasets(each, named)))
            for name, each in named.items()
        }
        plans: list[TickPlan] = []
        for name in watch.unsettled_names(states):
            if runs.under_way(routine_key(name)):
                continue  # examined again when it has ended
            with log_and_go_on(context, f"routine {name} is not started") as trouble:
                decision = _decide(runs, named[name], list(named.values()))
                todo = _plan(runs, catalog, named[name], decision, code[name])
                if todo is not None:
                    plans.append(todo)
                elif not _depends_on_runs(named[name]) or pending(replace(named[name], only_checked=False)) is None:
                    watch.settle(name, states[name], decision.wake_at)
            if trouble:
                watch.settle(name, states[name], time.time() + TROUBLE_AGAIN_SECONDS)
        watch.forget_others(states)
        return SensorResult(
            dynamic_partitions_requests=[request for each in plans for request in each.partitions],
            run_requests=[run for each in plans for run in each.runs],
            cursor=watch.dump(),
        )

    return start_routines


def _relevant_datasets(routine: Routine, named: dict[str, Routine]) -> list[str]:
    """Returns the datasets whose state decides whether the routine is due."""
    waits_for = [named[each.routine] for each in routine.triggers if isinstance(each, After) and each.routine in named]
    return [*routine.sources, routine.target, *(each.target for each in waits_for)]


def _depends_on_runs(routine: Routine) -> bool:
    """Returns whether results of Dagster's runs, which no dataset records, may make the routine due."""
    return routine.only_checked or any(
        isinstance(each, After) and each.outcome == "failure" for each in routine.triggers
    )


def _decide(runs: RunQueue, routine: Routine, routines: Sequence[Routine]) -> Decision:
    failing = [each.routine for each in routine.triggers if isinstance(each, After) and each.outcome == "failure"]
    failures = last_failures(runs.instance, {name: routine_key(name).to_user_string() for name in failing})
    return due(routine, others=routines, failures=failures, verdicts=verdicts_of(runs.instance, routine))


def _plan(runs: RunQueue, catalog: CatalogResource, routine: Routine, decision: Decision, code: str) -> TickPlan | None:
    """Returns the work of this tick; None if there is none before something changes."""
    asset = routine_key(routine.name)
    tags = {**routine.tags, **({MAX_RUNTIME_TAG: str(round(routine.timeout))} if routine.timeout else {})}
    if len(routine.sources) > 1:
        if decision.ready is None:
            return None
        retries = _retries(routine, code, [each.table_uuid for each in decision.ready.ranges])
        run = runs.request(asset, f"{asset.to_user_string()}:{_span(decision.ready)}", tags, retries)
        return TickPlan([], [run] if run else [])
    state = catalog.state(routine.sources[0])
    if state is None:
        return None
    done = position(routine)
    # Versions that were read by a run that died before it reported them: another run reports them.
    read = [
        number for number in state.numbers if done and done.table_uuid == state.table_uuid and number <= done.version
    ]
    wanted = unreported_versions(runs.instance, asset, read)
    ready = [version.version for version in decision.ready.versions] if decision.ready else []
    fresh = [number for number in ready if number > (decision.after or 0)]
    if fresh:
        wanted |= {number for number in state.numbers if fresh[0] <= number <= fresh[-1]}
    if not wanted:
        return None
    retries = _retries(routine, code, [state.table_uuid])
    return plan_runs(runs, asset, routine.sources[0], state.numbers, wanted, retries, tags)


def _retries(routine: Routine, code: str, table_uuids: Sequence[str]) -> RetryPolicy:
    return RetryPolicy(routine.retries + 1, routine.backoff, fingerprint(code, *table_uuids))


def _span(ready: Pending) -> str:
    return ",".join(f"{each.source}@v{each.to_version}" for each in ready.ranges)
