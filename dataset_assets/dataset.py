"""A dataset as an asset: one partition a version; materializing a version profiles and checks it."""

from collections.abc import Sequence
from dataclasses import dataclass

from dagster import (
    AllPartitionMapping,
    AssetDep,
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    BackfillPolicy,
    MaterializeResult,
    asset,
)

from dataset_assets.alive import alive
from dataset_assets.checks import readable, readable_spec
from dataset_assets.partitions import dataset_key, version_of, versions_of
from dataset_assets.profile import metadata, profile
from resources.blobs import BlobStoreResource


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset that the team declares; those that ingestions and routines name need no declaration."""

    name: str
    description: str | None = None


def dataset_asset(spec: DatasetSpec, upstream: Sequence[AssetKey]) -> AssetsDefinition:
    """The asset of a dataset whose versions the assets ``upstream`` write."""
    key = dataset_key(spec.name)

    @asset(
        key=key,
        description=spec.description,
        kinds={"iceberg"},
        partitions_def=versions_of(spec.name),
        # A version may hold the rows of any run upstream, so none of its partitions stands for one of theirs.
        deps=[AssetDep(upper, partition_mapping=AllPartitionMapping()) for upper in upstream],
        backfill_policy=BackfillPolicy.single_run(),
        check_specs=[readable_spec(key)],
    )
    def profile_versions(context: AssetExecutionContext, blobs: BlobStoreResource) -> MaterializeResult:  # type: ignore[type-arg]  # subscripted, Dagster does not know it
        with alive(context):
            profiles = []
            for partition in context.partition_keys:
                profiles.append(profile(spec.name, version_of(partition)))
                context.add_asset_metadata(metadata(profiles[-1]), partition_key=partition)
                context.log.info("%s %s is profiled", spec.name, partition)
            return MaterializeResult(check_results=[readable(key, profiles, blobs.store())])

    return profile_versions
