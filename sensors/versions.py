"""New versions, whoever wrote them, become partitions and runs that profile and check them."""

from collections.abc import Sequence

from dagster import (
    AssetSelection,
    DefaultSensorStatus,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)

from dataset_assets.partitions import dataset_key
from resources.catalog import CatalogResource
from sensors.runs import close_dead_runs, plan, unreported

TICK_SECONDS = 5


def versions_sensor(datasets: Sequence[str]) -> SensorDefinition:
    """The sensor over the versions of ``datasets``."""

    @sensor(
        name="versions",
        description="New versions of the datasets become partitions, and runs that profile and check them.",
        asset_selection=AssetSelection.assets(*map(dataset_key, datasets)),
        minimum_interval_seconds=TICK_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
    )
    def versions(context: SensorEvaluationContext, catalog: CatalogResource) -> SensorResult:
        close_dead_runs(context.instance)
        plans = []
        for name in datasets:
            present = [version.version for version in catalog.versions(name)]
            due = unreported(context.instance, dataset_key(name), present)
            plans.append(plan(context.instance, dataset_key(name), name, present, due))
        return SensorResult(
            dynamic_partitions_requests=[request for each in plans for request in each.partitions],
            run_requests=[run for each in plans for run in each.runs],
        )

    return versions
