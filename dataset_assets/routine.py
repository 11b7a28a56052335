"""A routine as an asset: its partitions are the versions that it reads."""

import inspect
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from dagster import (
    AllPartitionMapping,
    AssetDep,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    AssetsDefinition,
    AssetSpec,
    BackfillPolicy,
    multi_asset,
)

from dataset_assets.asset_checks import recorded_verdicts
from dataset_assets.asset_keys import dataset_key, key_of, op_name, requested_versions, routine_key, versions_of
from dataset_assets.groups import group_of
from dataset_assets.heartbeat import heartbeat
from dataset_assets.profile_metadata import column_lineage, column_schema, run_link
from dataset_assets.run_tags import WORK_TAG, tag_outages
from dataset_assets.synchronization import unchanging_tags
from dataset_assets.tracking import tracked
from lakefeed import Dataset
from lakefeed.catalog import Lake, list_versions
from lakefeed.routines import (
    Routine,
    RoutineResult,
    Verdicts,
    failed_rows,
    history,
    pending,
    position,
    routine,
    run_versions,
)

__all__ = ["routine", "routine_asset", "verdicts_of"]

LABEL = re.compile(r"[A-Za-z0-9_.-]{0,63}")
"""Values of tags that Dagster allows on assets; tags of runs may be any text."""


def routine_asset(declared: Routine, open_sources: Iterable[str] = ()) -> AssetsDefinition:
    """Returns the asset of a routine. The position stored with the output decides which rows a run reads.

    ``open_sources`` are left out of the lineage, because they would close a cycle, which Dagster cannot show.
    """
    several = len(declared.sources) > 1
    shown = [source for source in declared.sources if source not in set(open_sources)]

    spec = AssetSpec(
        routine_key(declared.name),
        description=_description(declared, set(open_sources)),
        kinds={"routine", "python"},
        group_name=group_of(declared.owners, declared.target if declared.output else declared.sources[0]),
        owners=declared.owners,
        tags={name: value for name, value in declared.tags.items() if LABEL.fullmatch(value)},
        deps=[_dep(source, several) for source in shown],
        # A run that stops at max_rows_per_run leaves requested versions; it reports the finished ones itself.
        skippable=True,
    )
    tags = unchanging_tags(map(dataset_key, shown))

    @multi_asset(
        name=op_name(spec.key),
        specs=[spec],
        pool=declared.pool,
        required_resource_keys={*declared.resources, *(["compute"] if declared.distributed else [])},
        partitions_def=None if several else versions_of(declared.sources[0]),
        backfill_policy=None if several else BackfillPolicy.single_run(),
    )
    def run(context: AssetExecutionContext):  # type: ignore[no-untyped-def]  # a generator without items
        with heartbeat(context), tag_outages(context), tracked(context, f"routine {declared.name}", declared.fn):
            requested = None if several else requested_versions(context)
            results = list(_run_pending(context, declared, requested or []))
            for partition, facts in _reports(declared, requested, results):
                context.log_event(AssetMaterialization(spec.key, partition=partition, metadata=facts, tags=tags))
        yield from ()

    return run


def verdicts_of(instance: Any, declared: Routine) -> Verdicts | None:
    """Returns the results of the checks of the versions that the routine has yet to read."""
    if not declared.only_checked:
        return None
    todo = pending(replace(declared, only_checked=False))
    results = todo.ranges if todo else ()
    return {
        each.source: recorded_verdicts(instance, each.source, each.table_uuid, (v.version for v in each.versions))
        for each in results
    }


def _run_pending(
    context: AssetExecutionContext, declared: Routine, requested: Sequence[int]
) -> Iterable[RoutineResult]:
    by_sensor = WORK_TAG in context.run.tags
    for result in run_versions(
        declared,
        up_to=max(requested) if requested else None,
        after=min(requested) - 1 if requested and declared.exact else None,
        run=context.run.run_id,
        verdicts=verdicts_of(context.instance, declared),
        resources={name: getattr(context.resources, name) for name in declared.resources},
        max_rows=declared.max_rows_per_run if by_sensor else None,
        engine=context.resources.compute.engine() if declared.distributed else None,
    ):
        context.log.info("v%d: %d rows in, %d rows out", result.to_version, result.rows_in, result.rows_out)
        yield result


def _reports(
    declared: Routine, requested: Sequence[int] | None, results: Sequence[RoutineResult]
) -> Iterable[tuple[str | None, dict[str, Any]]]:
    """Yields the partition and the metadata of each version that is done and was requested, or was read before one.

    Without partitions, yields the metadata of each commit.
    """
    if requested is None:
        yield from ((None, _metadata([each], declared)) for each in results)
        return
    done, known = (
        history(declared),
        [version.version for version in list_versions(Lake.current().table(declared.sources[0]))],
    )
    todo, reached = pending(replace(declared, only_checked=False)), position(declared)
    first_left = todo.versions[0].version if todo else float("inf")
    reported = {*requested} | {v for each in results for v in known if _covers(each, v)}
    for version in sorted(reported):
        if version < first_left and reached is not None:
            yield (
                key_of(version),
                _version_metadata([each for each in done if _covers(each, version)], version, declared),
            )


def _version_metadata(results: Sequence[RoutineResult], version: int, declared: Routine) -> dict[str, Any]:
    """Returns the metadata of a source version, which earlier runs may have processed. A version may have no result."""
    reasons = [dict(each.left_out)[version] for each in results if version in dict(each.left_out)]
    if reasons:
        return {"rows_in": 0, "rows_out": 0, "left_out": "; ".join(reasons)}
    return _metadata(results, declared)


def _covers(result: RoutineResult, version: int) -> bool:
    return (result.from_version or 0) < version <= result.to_version


def _metadata(results: Sequence[RoutineResult], declared: Routine) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "rows_in": sum(each.rows_in for each in results),
        "rows_out": sum(each.rows_out for each in results),
    }
    left_out = [f"{each}" for result in results for each in result.left_out_rows]
    if left_out:
        facts["left_out"] = "; ".join(left_out)
    if declared.on_error != "fail":
        facts["rows_failed"] = sum(each.failed for each in results)
        facts["failed_rows_waiting"] = len(failed_rows(declared))
        facts["failed_rows_in"] = declared.errors_dataset
    if results and declared.output is not None:
        lineage = results[-1].lineage
        deps = {name: [(dataset_key(dataset), column) for dataset, column in lineage[name]] for name in lineage}
        facts["dagster/column_schema"] = column_schema(Dataset(declared.target).schema)
        facts |= {"dagster/column_lineage": column_lineage(deps)} if deps else {}
    if results:
        facts["output"] = ", ".join(f"{declared.target} {key_of(each.output_version)}" for each in results)
        facts["written_by_run"] = run_link(results[-1].run or "")
    read = [f"{span.source} up to v{span.to_version}" for each in results for span in each.also]
    return facts | ({"also_read": ", ".join(read)} if read else {})


def _dep(source: str, several: bool) -> AssetDep | AssetKey:
    key = dataset_key(source)
    return AssetDep(key, partition_mapping=AllPartitionMapping()) if several else key


def _description(declared: Routine, open_sources: set[str]) -> str:
    text = inspect.getdoc(declared.fn) or ""
    if declared.columns:
        names = ", ".join(declared.columns)
        text += f"\n\nDerives the columns {names} of {declared.target}, for rows that are new or changed."
    elif open_sources:
        names = ", ".join(sorted(open_sources))
        text += f"\n\nFeeds itself through {names}; rows pass at most {declared.max_depth} routines."
    if declared.output is None:
        text += f"\n\nA side effect, at least once for each version; its log is the dataset {declared.target}."
    return text.strip()
