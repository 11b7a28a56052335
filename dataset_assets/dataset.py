"""`DatasetSpec`, and a dataset as an asset: its partitions are its versions, and a run profiles and checks versions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from inspect import Parameter, Signature

from dagster import (
    AssetDep,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    AssetsDefinition,
    AssetSpec,
    BackfillPolicy,
    FreshnessPolicy,
    MaterializeResult,
    multi_asset,
)

from dataset_assets.asset_checks import CheckReport, check_results, check_specs, evaluate_checks, named_checks
from dataset_assets.asset_keys import dataset_key, key_of, op_name, requested_versions, versions_of
from dataset_assets.heartbeat import heartbeat
from dataset_assets.profile_metadata import profile_metadata
from dataset_assets.run_tags import tag_outages
from dataset_assets.synchronization import NO_PARTITIONS, UNCHANGING, unchanging_tags
from dataset_assets.tracking import version_metadata
from lakefeed.checks import Check
from lakefeed.errors import LakefeedError
from lakefeed.profiles import profiles
from lakefeed.provenance import Lineages

SIGNATURE = Signature(
    [Parameter("context", Parameter.POSITIONAL_OR_KEYWORD, annotation=AssetExecutionContext)],
    return_annotation=MaterializeResult,
)
"""The signature of the function of each dataset. Dagster asks for it fifteen times, and to work it out takes long."""


@dataclass(frozen=True)
class DatasetSpec:
    """The declaration of a dataset. Other datasets of the catalog are assets without a declaration.

    Args:
        name: the name of the dataset.
        description: shown in the UI.
        owners: mail addresses, or ``team:name``.
        tags: the tags of the asset.
        checks: the checks of every version (see `lakefeed.checks`), in addition to those that every dataset has.
        freshness: the seconds after the newest version at which the dataset becomes stale.
        columns: descriptions of columns.
        upstreams: the datasets from which it is made, unless a routine declares them.
        lineage: for a column, the columns ("dataset.column") from which it is made.

    Raises:
        InvalidArgumentError: two checks share a name.
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
        named_checks(self.checks)


def dataset_asset(spec: DatasetSpec, writers: Sequence[AssetKey], group: str) -> AssetsDefinition:
    """Returns the asset of a dataset. ``writers`` are the assets that write its versions."""
    key, upstream = dataset_key(spec.name), list(dict.fromkeys([*writers, *map(dataset_key, spec.upstreams)]))

    def profile_versions(context: AssetExecutionContext) -> MaterializeResult:  # type: ignore[type-arg]  # subscripted, Dagster does not know it
        with heartbeat(context), tag_outages(context):
            reports: dict[str, CheckReport] = {}
            try:
                for profile in profiles(spec.name, requested_versions(context)):
                    reports[key_of(profile.version.version)] = evaluate_checks(profile, spec.checks)
                    context.log.info("%s v%d is profiled", spec.name, profile.version.version)
            except LakefeedError:
                # Finished versions are reported. The run fails, and the sensor requests the others again.
                for partition, each in reports.items():
                    facts = profile_metadata(each, spec.columns, spec.lineage)
                    event = AssetMaterialization(
                        key, partition=partition, metadata=facts, tags=unchanging_tags(upstream)
                    )
                    context.log_event(event)
                raise
            lineages = Lineages.read() if reports else None
            for partition, each in reports.items():
                facts = profile_metadata(each, spec.columns, spec.lineage)
                facts |= {} if lineages is None else version_metadata(lineages, each.profile.version)
                context.add_asset_metadata(facts, partition_key=partition)
            return MaterializeResult(
                check_results=check_results(key, spec.checks, list(reports.values())), data_version=UNCHANGING
            )

    profile_versions.__signature__ = SIGNATURE  # type: ignore[attr-defined]  # of `inspect`
    asset = multi_asset(
        name=op_name(key),
        specs=[_asset_spec(spec, upstream, group)],
        check_specs=check_specs(key, spec.checks),
        partitions_def=versions_of(spec.name),
        backfill_policy=BackfillPolicy.single_run(),
    )
    return asset(profile_versions)


def _asset_spec(spec: DatasetSpec, upstream: Sequence[AssetKey], group: str) -> AssetSpec:
    return AssetSpec(
        dataset_key(spec.name),
        description=spec.description,
        owners=spec.owners,
        tags=spec.tags,
        kinds={"dataset", "iceberg"},
        group_name=group,
        deps=[AssetDep(upper, partition_mapping=NO_PARTITIONS) for upper in upstream],
        freshness_policy=FreshnessPolicy.time_window(fail_window=timedelta(seconds=spec.freshness))
        if spec.freshness
        else None,
    )


def unloaded_dataset(name: str, writers: Sequence[AssetKey], group: str) -> AssetSpec:
    """Returns the asset of a dataset whose declaration does not load. It keeps its records, but no run checks it."""
    return AssetSpec(
        dataset_key(name),
        description="The declaration of this dataset may be in a file that does not load, so its versions are not "
        "checked until it does: see the group `broken`.",
        kinds={"dataset", "iceberg"},
        group_name=group,
        partitions_def=versions_of(name),
        deps=[AssetDep(upper, partition_mapping=NO_PARTITIONS) for upper in writers],
    )
