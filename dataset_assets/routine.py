"""A routine as an asset between the dataset it reads and the one it writes, partitioned by the versions it reads."""

import inspect
from collections.abc import Callable

import pyarrow as pa
from dagster import (
    AssetExecutionContext,
    AssetMaterialization,
    AssetsDefinition,
    BackfillPolicy,
    MaterializeResult,
    asset,
)

from dataset_assets.alive import alive
from dataset_assets.partitions import dataset_key, key_of, routine_key, version_of, versions_of
from lakefeed.routines import Routine, RoutineFn, RoutineResult, history, run_versions


def routine(
    *, on: str, into: str, name: str | None = None, schema: pa.Schema | None = None
) -> Callable[[RoutineFn], Routine]:
    """Declares a function over the rows appended to dataset ``on``; what it returns is appended to ``into``.

    The function takes a Dataset and returns a Dataset or a Table, or yields record batches. It is started by itself,
    exactly once for every row. ``name``: that of the function unless given.
    """

    def declare(fn: RoutineFn) -> Routine:
        return Routine(name or fn.__name__, fn, source=on, output=into, schema=schema)

    return declare


def routine_asset(declared: Routine) -> AssetsDefinition:
    """The asset of a routine. Which rows a run reads is decided by the position stored with the output alone."""

    @asset(
        key=routine_key(declared.name),
        description=inspect.getdoc(declared.fn),
        kinds={"python"},
        partitions_def=versions_of(declared.source),
        deps=[dataset_key(declared.source)],
        backfill_policy=BackfillPolicy.single_run(),
    )
    def run(context: AssetExecutionContext) -> MaterializeResult:  # type: ignore[type-arg]  # subscripted, Dagster does not know it
        with alive(context):
            asked = context.partition_keys
            made = [
                _logged(context, result)
                for result in run_versions(declared, up_to=max(map(version_of, asked)), run=context.run.run_id)
            ]
            written = {key_of(result.to_version): result for result in history(declared)}
            for partition in asked:
                context.add_asset_metadata(_metadata(written.get(partition), declared), partition_key=partition)
            for partition in {key_of(result.to_version) for result in made}.difference(asked):
                found = _metadata(written.get(partition), declared)
                context.log_event(AssetMaterialization(context.asset_key, metadata=found, partition=partition))
            return MaterializeResult()

    return run


def _logged(context: AssetExecutionContext, result: RoutineResult) -> RoutineResult:
    context.log.info("v%d: %d rows in, %d rows out", result.to_version, result.rows_in, result.rows_out)
    return result


def _metadata(result: RoutineResult | None, declared: Routine) -> dict[str, int | str]:
    """What a version became; it may have been written by an earlier run. A version that adds nothing has no result."""
    if result is None:
        return {"rows_in": 0, "rows_out": 0}
    return {
        "rows_in": result.rows_in,
        "rows_out": result.rows_out,
        "output": f"{declared.output} {key_of(result.output_version)}",
        "written_by_run": result.run or "",
    }
