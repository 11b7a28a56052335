"""The only Definitions: everything that the files in ``dataset_assets/defs`` declare."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Sequence

from dagster import AssetKey, Definitions, in_process_executor

import dataset_assets.defs
from dataset_assets.dataset import DatasetSpec, dataset_asset
from dataset_assets.ingestion import FolderIngestion, ingestion_asset, ingestion_schedule
from dataset_assets.partitions import ingest_key, routine_key
from dataset_assets.routine import routine_asset
from lakefeed.routines import Routine
from resources.blobs import BlobStoreResource
from resources.catalog import CatalogResource
from sensors.routines import routines_sensor
from sensors.versions import versions_sensor

Declared = DatasetSpec | FolderIngestion | Routine


def declared() -> Iterator[Declared]:
    """What the modules of ``dataset_assets.defs`` hold, in order of their names."""
    for module in sorted(pkgutil.iter_modules(dataset_assets.defs.__path__), key=lambda found: found.name):
        values = vars(importlib.import_module(f"dataset_assets.defs.{module.name}")).values()
        yield from (value for value in values if isinstance(value, Declared))


def definitions(everything: Sequence[Declared]) -> Definitions:
    """The Dagster definitions of what is declared."""
    ingestions = [each for each in everything if isinstance(each, FolderIngestion)]
    routines = [each for each in everything if isinstance(each, Routine)]
    specs = _datasets(everything, ingestions, routines)
    datasets = [dataset_asset(spec, _writers(spec.name, ingestions, routines)) for spec in specs]
    return Definitions(
        assets=[*map(ingestion_asset, ingestions), *datasets, *map(routine_asset, routines)],
        schedules=[*map(ingestion_schedule, ingestions)],
        sensors=[versions_sensor([spec.name for spec in specs]), routines_sensor(routines)],
        resources={"catalog": CatalogResource(), "blobs": BlobStoreResource()},
        # A run does the work of one asset: a process for it is enough, one more for its only step is not needed.
        executor=in_process_executor,
    )


def _datasets(
    everything: Sequence[Declared], ingestions: Sequence[FolderIngestion], routines: Sequence[Routine]
) -> list[DatasetSpec]:
    named = [each.into for each in ingestions] + [name for each in routines for name in (each.source, each.output)]
    specs = {name: DatasetSpec(name) for name in named}
    specs |= {each.name: each for each in everything if isinstance(each, DatasetSpec)}
    return list(specs.values())


def _writers(name: str, ingestions: Sequence[FolderIngestion], routines: Sequence[Routine]) -> list[AssetKey]:
    ingesting = [ingest_key(each.name) for each in ingestions if each.into == name]
    return ingesting + [routine_key(each.name) for each in routines if each.output == name]


defs = definitions(list(declared()))
