"""Rows that a routine has not read become a run of it; which rows it reads is decided by its stored position alone."""

from collections.abc import Sequence

from dagster import (
    AssetSelection,
    DefaultSensorStatus,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)

from dataset_assets.partitions import routine_key
from lakefeed.errors import LakefeedError
from lakefeed.routines import Routine, pending, position
from resources.catalog import CatalogResource
from sensors.runs import Plan, plan, unreported
from sensors.versions import TICK_SECONDS


def routines_sensor(routines: Sequence[Routine]) -> SensorDefinition:
    """The sensor that starts ``routines``."""

    @sensor(
        name="routines",
        description="Starts each routine when its source has rows that it has not read.",
        asset_selection=AssetSelection.assets(*(routine_key(routine.name) for routine in routines)),
        minimum_interval_seconds=TICK_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
    )
    def start_routines(context: SensorEvaluationContext, catalog: CatalogResource) -> SensorResult:
        plans = []
        for routine in routines:
            try:
                plans.append(_plan(context, catalog, routine))
            except LakefeedError as error:  # one routine's trouble is not the others'
                context.log.error("routine %s is not started: %s", routine.name, error)
        return SensorResult(
            dynamic_partitions_requests=[request for each in plans for request in each.partitions],
            run_requests=[run for each in plans for run in each.runs],
        )

    return start_routines


def _plan(context: SensorEvaluationContext, catalog: CatalogResource, routine: Routine) -> Plan:
    todo, done = pending(routine), position(routine)
    present = [version.version for version in catalog.versions(routine.source)]
    # Read, but by a run that died before it could say so: a run reports it and finds nothing else to do.
    read = [version for version in present if done and version <= done.version]
    due = unreported(context.instance, routine_key(routine.name), read)
    due |= {version.version for version in todo.versions} if todo else set()
    return plan(context.instance, routine_key(routine.name), routine.source, present, due)
