"""The Dagster definitions: the declarations in ``dataset_assets/defs``, and every dataset of the catalog.

This module is the composition root. It imports assets, sensors and resources, and none of them imports it.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from dagster import (
    AssetKey,
    Definitions,
    ScheduleDefinition,
    SensorDefinition,
    in_process_executor,
)
from sqlalchemy.exc import SQLAlchemyError

from dataset_assets.asset_keys import ingest_key, routine_key
from dataset_assets.broken_declaration import CHECK, BrokenDeclaration, broken_asset, distinct
from dataset_assets.code_version import code_version
from dataset_assets.dataset import DatasetSpec, dataset_asset, unloaded_dataset
from dataset_assets.groups import group_of
from dataset_assets.index import IndexSpec, index_asset
from dataset_assets.ingestion import FolderIngestion, Ingestion, as_ingestion, ingestion_asset, ingestion_trigger
from dataset_assets.loading import Declaration, load_declarations, split_loadable
from dataset_assets.routine import routine_asset
from dataset_assets.tree_lineage import with_parents
from lakefeed.catalog import Lake
from lakefeed.errors import InvalidArgumentError, quoted_list
from lakefeed.routines import Routine, cycles, with_neighbours
from resources.blob_store_resource import BlobStoreResource
from resources.catalog_resource import CatalogResource
from resources.compute_resource import ComputeResource
from resources.reload_resource import ReloadResource
from sensors.declarations_sensor import declarations_sensor
from sensors.indexes_sensor import indexes_sensor
from sensors.routines_sensor import routines_sensor
from sensors.versions_sensor import versions_sensor

logger = logging.getLogger(__name__)

# Dagster sets it for `dg check defs` and `dagster definitions validate`.
VALIDATION_VARIABLE = "DAGSTER_IS_DEFS_VALIDATION_CLI"


def catalog_datasets() -> list[str]:
    """Returns the names of all datasets in the catalog; none if the catalog cannot be reached."""
    try:
        return sorted(Lake.current().heads())
    except (SQLAlchemyError, OSError):
        logger.warning("the catalog cannot be reached: only declared datasets are shown", exc_info=True)
        return []


def build_definitions(
    declarations: Sequence[Declaration | BrokenDeclaration],
    existing: Iterable[str] = (),
    resources: Mapping[str, object] | None = None,
) -> Definitions:
    """Returns the Dagster definitions of declarations and of other datasets in the catalog.

    A declaration that does not load, alone or beside those before it, becomes an asset that shows the error.

    Args:
        declarations: the declared datasets, ingestions, routines and indexes.
        existing: the names of datasets in the catalog. Those that are not declared become assets too.
        resources: the resources that routines request by name, in addition to ours.
    """
    return _load(declarations, list(existing), resources or {})[0]


def _load(
    declarations: Sequence[Declaration | BrokenDeclaration], existing: Sequence[str], resources: Mapping[str, object]
) -> tuple[Definitions, list[BrokenDeclaration]]:
    unreadable = [each for each in declarations if isinstance(each, BrokenDeclaration)]

    def load(sound: Sequence[Declaration], broken: Sequence[BrokenDeclaration]) -> Definitions:
        definitions = _definitions(sound, distinct([*unreadable, *broken]), existing, resources)
        Definitions.validate_loadable(definitions)
        return definitions

    sound = sorted((each for each in declarations if not isinstance(each, BrokenDeclaration)), key=_refers_to_others)
    definitions, broken = split_loadable(sound, load)
    return definitions, [*unreadable, *broken]


def _refers_to_others(declared: Declaration) -> bool:
    """Returns whether a declaration claims the name or the place of others. Where it is wrong, it is the broken one."""
    if isinstance(declared, DatasetSpec):
        return bool(declared.upstreams)
    return isinstance(declared, Routine) and declared.formerly is not None


def _definitions(
    declarations: Sequence[Declaration],
    broken: Sequence[BrokenDeclaration],
    existing: Sequence[str],
    resources: Mapping[str, object],
) -> Definitions:
    ingestions = [as_ingestion(each) for each in declarations if isinstance(each, FolderIngestion | Ingestion)]
    triggers = list(map(ingestion_trigger, ingestions))
    routines = with_neighbours([each for each in declarations if isinstance(each, Routine)])
    indexes = [each for each in declarations if isinstance(each, IndexSpec)]
    declared = {each.name for each in declarations if isinstance(each, DatasetSpec)}
    _check_unique("dataset", [each.name for each in declarations if isinstance(each, DatasetSpec)])
    _check_unique("ingestion", [each.name for each in ingestions])
    _check_unique("routine", [each.name for each in routines])
    _check_unique("former name of a routine", [name for each in routines for name in each.names])
    _check_unique("index", [each.name for each in indexes])
    specs = _datasets(declarations, ingestions, routines)
    undeclared = [name for name in existing if name not in specs]
    # Without their declaration, datasets would be checked without its checks.
    unloaded = {
        name
        for name in [*specs, *undeclared]
        if name not in declared and any(each.may_declare(name) for each in broken)
    }
    loaded = [each for each in [*specs.values(), *map(DatasetSpec, undeclared)] if each.name not in unloaded]
    datasets = with_parents(loaded, routines, existing)
    writers, cycle_sources = _writers(ingestions, routines), _open_sources(routines)
    groups = _groups([*specs.values(), *map(DatasetSpec, undeclared)], routines)
    return Definitions(
        assets=[
            *(ingestion_asset(each, groups[each.into]) for each in ingestions),
            *(dataset_asset(spec, writers.get(spec.name, []), groups[spec.name]) for spec in datasets),
            *(unloaded_dataset(name, writers.get(name, []), groups[name]) for name in sorted(unloaded)),
            *(routine_asset(each, cycle_sources.get(each.name, ())) for each in routines),
            *map(index_asset, indexes),
            *map(broken_asset, broken),
        ],
        schedules=[each for each in triggers if isinstance(each, ScheduleDefinition)],
        sensors=[
            *(each for each in triggers if isinstance(each, SensorDefinition)),
            versions_sensor(
                [spec.name for spec in datasets],
                [name for name in undeclared if name not in unloaded],
                routines=routines,
                code={spec.name: code_version(*spec.checks) for spec in datasets if spec.checks},
                unloaded=unloaded,
            ),
            routines_sensor(routines),
            *([indexes_sensor(indexes)] if indexes else []),
            *([declarations_sensor({each.key: each.message for each in broken}, CHECK)] if broken else []),
        ],
        resources={**_default_resources(), **resources},
        # A run does the work of one asset: a process for it is enough, one more for its only step is not needed.
        executor=in_process_executor,
    )


def _default_resources() -> dict[str, object]:
    return {
        "catalog": CatalogResource(),
        "blobs": BlobStoreResource(),
        "compute": ComputeResource(),
        "reload": ReloadResource(),
    }


def _check_unique(kind: str, names: Sequence[str]) -> None:
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        raise InvalidArgumentError(f"each {kind} is declared once; {quoted_list(twice)} are declared several times")


def _datasets(
    declarations: Sequence[Declaration], ingestions: Sequence[Ingestion], routines: Sequence[Routine]
) -> dict[str, DatasetSpec]:
    named = [name for each in ingestions for name in (each.into, each.quarantine) if name] + [
        name for each in routines for name in (*each.sources, each.target)
    ]
    named += [each.on for each in declarations if isinstance(each, IndexSpec)]
    specs = {name: DatasetSpec(name) for name in named}
    return specs | {each.name: each for each in declarations if isinstance(each, DatasetSpec)}


def _groups(datasets: Sequence[DatasetSpec], routines: Sequence[Routine]) -> dict[str, str]:
    """Returns the group of each dataset. Without an owner it is in the group of the routine that writes it."""
    owners = {routine.target: routine.owners for routine in routines}
    return {each.name: group_of([*each.owners, *owners.get(each.name, ())], each.name) for each in datasets}


def _writers(ingestions: Sequence[Ingestion], routines: Sequence[Routine]) -> dict[str, list[AssetKey]]:
    writers: dict[str, list[AssetKey]] = {}
    for ingestion in ingestions:
        for name in filter(None, (ingestion.into, ingestion.quarantine)):
            writers.setdefault(name, []).append(ingest_key(ingestion.name))
    for routine in routines:
        if routine.columns:  # it is shown behind the dataset that it reads; Dagster cannot show a circle
            continue
        writers.setdefault(routine.target, []).append(routine_key(routine.name))
    return writers


def _open_sources(routines: Sequence[Routine]) -> dict[str, set[str]]:
    """Returns for each routine that begins a cycle the sources that close it."""
    sources: dict[str, set[str]] = {}
    for chain in cycles(routines):
        logger.warning("routines form a cycle: %s", " -> ".join(each.name for each in (*chain, chain[0])))
        sources.setdefault(chain[0].name, set()).add(chain[-1].target)
    return sources


def load_definitions() -> Definitions:
    """Returns the definitions of the project.

    Raises:
        InvalidArgumentError: a declaration is broken, and this is a validation (``dg check defs``). Otherwise a broken
            declaration is logged and shown as an asset.
    """
    definitions, broken = _load(list(load_declarations()), catalog_datasets(), {})
    messages = [f"{each.message}\n{each.trace}" for each in broken]
    if messages and os.environ.get(VALIDATION_VARIABLE):
        raise InvalidArgumentError("\n\n".join(messages))
    for message in messages:
        logger.error("%s", message)
    return definitions


defs = load_definitions()
