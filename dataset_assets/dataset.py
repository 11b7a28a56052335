"""A dataset as an asset: one partition a version; materializing a version profiles and checks it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from dagster import (
    AllPartitionMapping,
    AssetDep,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    AssetsDefinition,
    BackfillPolicy,
    FreshnessPolicy,
    MaterializeResult,
    asset,
)

from dataset_assets.asset_checks import DEFAULT_CHECKS, CheckReport, check_results, check_specs, evaluate_checks
from dataset_assets.asset_keys import dataset_key, key_of, version_of, versions_of
from dataset_assets.heartbeat import heartbeat
from dataset_assets.profile_metadata import profile_metadata
from dataset_assets.run_tags import tag_outages
from lakefeed.checks import Check, check_names
from lakefeed.errors import LakefeedError
from lakefeed.profiles import profiles


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset that the team declares; those that are merely in the catalog need no declaration.

    Args:
        name: in the lake.
        description: shown in the UI.
        owners: mail addresses, or ``team:name``.
        tags: of the asset.
        checks: of every version (see `lakefeed.checks`), beside those that every dataset has.
        freshness: seconds after the newest version at which the dataset counts as stale.
        columns: descriptions of columns.
        upstreams: datasets that it is made of, where no routine says so.
        lineage: for a column, the columns ("dataset.column") that it was made of.

    Raises:
        InvalidArgumentError: two checks have one name.
    """

    name: str
    description: str | None = None
    owners: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    checks: Sequence[Check] = ()
    freshness: float | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    upstreams: Sequence[str] = ()
    lineage: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_names([*DEFAULT_CHECKS, *self.checks])


def dataset_asset(spec: DatasetSpec, writers: Sequence[AssetKey]) -> AssetsDefinition:
    """The asset of a dataset whose versions the assets ``writers`` make."""
    key = dataset_key(spec.name)
    upstream = dict.fromkeys([*writers, *map(dataset_key, spec.upstreams)])

    @asset(
        key=key,
        description=spec.description,
        owners=spec.owners,
        tags=spec.tags,
        kinds={"iceberg"},
        partitions_def=versions_of(spec.name),
        # A version may hold the rows of any run upstream, so none of its partitions stands for one of theirs.
        deps=[AssetDep(upper, partition_mapping=AllPartitionMapping()) for upper in upstream],
        backfill_policy=BackfillPolicy.single_run(),
        check_specs=check_specs(key, spec.checks),
        freshness_policy=FreshnessPolicy.time_window(fail_window=timedelta(seconds=spec.freshness))
        if spec.freshness
        else None,
    )
    def profile_versions(context: AssetExecutionContext) -> MaterializeResult:  # type: ignore[type-arg]  # subscripted, Dagster does not know it
        with heartbeat(context), tag_outages(context):
            checked: dict[str, CheckReport] = {}
            try:
                for found in profiles(spec.name, map(version_of, context.partition_keys)):
                    checked[key_of(found.version.version)] = evaluate_checks(found, spec.checks)
                    context.log.info("%s v%d is profiled", spec.name, found.version.version)
            except LakefeedError:
                # What is done is reported; the run fails, and what is left is asked for again.
                for partition, each in checked.items():
                    facts = profile_metadata(each, spec.columns, spec.lineage)
                    context.log_event(AssetMaterialization(key, partition=partition, metadata=facts))
                raise
            for partition, each in checked.items():
                context.add_asset_metadata(profile_metadata(each, spec.columns, spec.lineage), partition_key=partition)
            return MaterializeResult(check_results=check_results(key, spec.checks, list(checked.values())))

    return profile_versions
