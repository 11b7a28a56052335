"""The Dagster definitions: the declarations in ``dataset_assets/defs``, and every dataset of the catalog.

This module is the composition root. It imports assets, sensors and resources, and none of them imports it.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence

from dagster import AssetKey, Definitions, ScheduleDefinition, SensorDefinition, in_process_executor
from sqlalchemy.exc import SQLAlchemyError

import dataset_assets.defs
from dataset_assets.asset_keys import ingest_key, routine_key
from dataset_assets.dataset import DatasetSpec, dataset_asset
from dataset_assets.ingestion import FolderIngestion, Ingestion, as_ingestion, ingestion_asset, ingestion_trigger
from dataset_assets.routine import routine_asset
from lakefeed.catalog import Lake
from lakefeed.routines import Routine, cycles
from resources.blob_store_resource import BlobStoreResource
from resources.catalog_resource import CatalogResource
from resources.compute_resource import ComputeResource
from resources.reload_resource import ReloadResource
from sensors.routines_sensor import routines_sensor
from sensors.versions_sensor import versions_sensor

logger = logging.getLogger(__name__)

Declaration = DatasetSpec | FolderIngestion | Ingestion | Routine


def load_declarations() -> Iterator[Declaration]:
    """Yields the declarations of the modules in ``dataset_assets/defs``, ordered by module name."""
    for module in sorted(pkgutil.iter_modules(dataset_assets.defs.__path__), key=lambda module: module.name):
        values = vars(importlib.import_module(f"dataset_assets.defs.{module.name}")).values()
        yield from (value for value in values if isinstance(value, Declaration))


def catalog_datasets() -> list[str]:
    """Returns the names of all datasets in the catalog; none if the catalog cannot be reached."""
    try:
        return sorted(Lake.current().heads())
    except (SQLAlchemyError, OSError):
        logger.warning("the catalog cannot be reached: only declared datasets are shown", exc_info=True)
        return []


def build_definitions(
    declarations: Sequence[Declaration], existing: Iterable[str] = (), resources: Mapping[str, object] | None = None
) -> Definitions:
    """Returns the Dagster definitions of declarations and of other datasets in the catalog.

    Args:
        declarations: the declared datasets, ingestions and routines.
        existing: the names of datasets in the catalog. Those that are not declared become assets too.
        resources: the resources that routines request by name, in addition to ours.
    """
    ingestions = [as_ingestion(each) for each in declarations if isinstance(each, FolderIngestion | Ingestion)]
    triggers = list(map(ingestion_trigger, ingestions))
    routines = [each for each in declarations if isinstance(each, Routine)]
    specs = _datasets(declarations, ingestions, routines)
    undeclared = [name for name in existing if name not in specs]
    datasets = [*specs.values(), *map(DatasetSpec, undeclared)]
    writers, cycle_sources = _writers(ingestions, routines), _open_sources(routines)
    return Definitions(
        assets=[
            *map(ingestion_asset, ingestions),
            *(dataset_asset(spec, writers.get(spec.name, [])) for spec in datasets),
            *(routine_asset(each, cycle_sources.get(each.name, ())) for each in routines),
        ],
        schedules=[each for each in triggers if isinstance(each, ScheduleDefinition)],
        sensors=[
            *(each for each in triggers if isinstance(each, SensorDefinition)),
            versions_sensor([spec.name for spec in datasets], undeclared),
            routines_sensor(routines),
        ],
        resources={
            "catalog": CatalogResource(),
            "blobs": BlobStoreResource(),
            "compute": ComputeResource(),
            "reload": ReloadResource(),
            **(resources or {}),
        },
        # A run does the work of one asset: a process for it is enough, one more for its only step is not needed.
        executor=in_process_executor,
    )


def _datasets(
    declarations: Sequence[Declaration], ingestions: Sequence[Ingestion], routines: Sequence[Routine]
) -> dict[str, DatasetSpec]:
    named = [name for each in ingestions for name in (each.into, each.quarantine) if name] + [
        name for each in routines for name in (*each.sources, each.target)
    ]
    specs = {name: DatasetSpec(name) for name in named}
    return specs | {each.name: each for each in declarations if isinstance(each, DatasetSpec)}


def _writers(ingestions: Sequence[Ingestion], routines: Sequence[Routine]) -> dict[str, list[AssetKey]]:
    writers: dict[str, list[AssetKey]] = {}
    for ingestion in ingestions:
        for name in filter(None, (ingestion.into, ingestion.quarantine)):
            writers.setdefault(name, []).append(ingest_key(ingestion.name))
    for routine in routines:
        writers.setdefault(routine.target, []).append(routine_key(routine.name))
    return writers


def _open_sources(routines: Sequence[Routine]) -> dict[str, set[str]]:
    """Returns for each routine that begins a cycle the sources that close it."""
    sources: dict[str, set[str]] = {}
    for chain in cycles(routines):
        logger.warning("routines form a cycle: %s", " -> ".join(each.name for each in (*chain, chain[0])))
        sources.setdefault(chain[0].name, set()).add(chain[-1].target)
    return sources


defs = build_definitions(list(load_declarations()), catalog_datasets())
