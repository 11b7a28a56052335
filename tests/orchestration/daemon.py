"""The sensors and the runs that they ask for, in this process and one after the other: what Dagster's daemon does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dagster import (
    AssetKey,
    DagsterInstance,
    DeleteDynamicPartitionsRequest,
    ExecuteInProcessResult,
    RunRequest,
    SensorResult,
    build_sensor_context,
)
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from dataset_assets.asset_keys import key_of
from dataset_assets.code_version import code_version
from dataset_assets.dataset import DatasetSpec
from dataset_assets.index import IndexSpec
from definitions import Declaration, build_definitions, catalog_datasets
from lakefeed import Dataset
from lakefeed.routines import Routine
from resources.catalog_resource import CatalogResource
from resources.reload_resource import ReloadResource
from sensors.indexes_sensor import indexes_sensor
from sensors.routines_sensor import routines_sensor
from sensors.versions_sensor import versions_sensor


def write(*values: int | None, to: str = "photos") -> None:
    rows = Dataset.from_dict({"x": list(values)})
    if Dataset.exists(to):
        rows.append_to(to)
    else:
        rows.save(to)


class Dagster:
    """The sensors and the runs they ask for, in this process: what the daemon does."""

    def __init__(
        self, instance: DagsterInstance, *everything: Declaration, resources: dict[str, Any] | None = None
    ) -> None:
        self.instance = instance
        self.everything, self.resources = everything, resources
        self.cursors: dict[str, str | None] = {}
        self.asked: list[RunRequest] = []

    def tick(self, which: str, found: Sequence[str] | None = None) -> list[RunRequest]:
        """What a sensor asks for; ``found``: the datasets in the catalog when the definitions were loaded."""
        found = catalog_datasets() if found is None else found
        routines = [each for each in self.everything if isinstance(each, Routine)]
        names = {*found, "photos", "copies"}
        code = {each.name: code_version(*each.checks) for each in self.everything if isinstance(each, DatasetSpec)}
        indexes = [each for each in self.everything if isinstance(each, IndexSpec)]
        if which == "routines":
            sensor = routines_sensor(routines)
        elif which == "indexes":
            sensor = indexes_sensor(indexes)
        else:
            sensor = versions_sensor(sorted(names), found, routines=routines, code=code)
        with build_sensor_context(self.instance, cursor=self.cursors.get(which)) as context:
            given = {"catalog": CatalogResource(), "reload": ReloadResource()}
            result = sensor(context, **{name: given[name] for name in sensor.required_resource_keys})
        assert isinstance(result, SensorResult)
        self.cursors[which] = result.cursor
        for request in result.dynamic_partitions_requests or []:
            if isinstance(request, DeleteDynamicPartitionsRequest):
                for key in request.partition_keys:
                    self.instance.delete_dynamic_partition(request.partitions_def_name, key)
            else:
                self.instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
        self.asked += result.run_requests or []
        return list(result.run_requests or [])

    def work(self, success: bool = True) -> None:
        """Ticks and runs until nothing is asked for."""
        for _ in range(50):
            asked = [*self.tick("versions"), *self.tick("routines"), *self._indexes()]
            if not asked:
                return
            for request in asked:
                done = self.run(request)
                assert done.success or not success
        raise AssertionError("it never comes to rest")

    def _indexes(self) -> list[RunRequest]:
        return self.tick("indexes") if any(isinstance(each, IndexSpec) for each in self.everything) else []

    def run(self, request: RunRequest) -> ExecuteInProcessResult:
        job = self.definitions().resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.instance,
            asset_selection=list(request.asset_selection or []),
            tags=dict(request.tags),
            raise_on_error=False,
        )

    def run_asset(self, key: AssetKey) -> ExecuteInProcessResult:
        return self.run(RunRequest(asset_selection=[key]))

    def by_hand(self, key: AssetKey, *versions: int) -> ExecuteInProcessResult:
        ends = {
            ASSET_PARTITION_RANGE_START_TAG: key_of(versions[0]),
            ASSET_PARTITION_RANGE_END_TAG: key_of(versions[-1]),
        }
        return self.run(RunRequest(asset_selection=[key], tags=ends))

    def definitions(self) -> Any:
        return build_definitions(self.everything, catalog_datasets(), self.resources)

    def reported(self, key: AssetKey) -> dict[str | None, dict[str, Any]]:
        found = reversed(self.instance.fetch_materializations(key, limit=100).records)
        return {
            record.partition_key: {name: value.value for name, value in record.asset_materialization.metadata.items()}
            for record in found
            if record.asset_materialization
        }

    def partitions(self, name: str = "photos") -> Sequence[str]:
        return self.instance.get_dynamic_partitions(f"{name}_versions")
