"""Sensors at size: 1,000 datasets, 100 routines, a burst of versions. ``python orchestration.py [--datasets N] …``

Dagster's own daemon is left out: a tick is called as it calls it, and its requests are applied to a real instance
(SQLite on disk). Reported: seconds (wall and CPU) and catalog queries of a tick, and seconds to load the definitions.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
HOME = tempfile.mkdtemp(prefix="lakefeed-orchestration-")
os.environ["LAKEFEED_HOME"] = HOME
warnings.simplefilter("ignore")

import pyarrow as pa  # noqa: E402  # after the home is set
from dagster import AssetMaterialization, DagsterInstance, build_sensor_context  # noqa: E402
from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate  # noqa: E402
from sqlalchemy import event  # noqa: E402

from dataset_assets.asset_keys import dataset_key, key_of, version_of  # noqa: E402
from definitions import build_definitions, catalog_datasets  # noqa: E402
from lakefeed import Dataset  # noqa: E402
from lakefeed.catalog import Lake  # noqa: E402
from lakefeed.routines import Routine, run_versions  # noqa: E402
from resources.catalog_resource import CatalogResource  # noqa: E402
from resources.reload_resource import ReloadResource  # noqa: E402
from sensors.routines_sensor import routines_sensor  # noqa: E402
from sensors.sensor_cursor import SensorCursor  # noqa: E402
from sensors.versions_sensor import versions_sensor  # noqa: E402

MOST_TICKS = 100
# Names that differ only in characters that Dagster's names do not have, and a dataset whose metadata is lost.
ODD_NAMES = ("a-b", "a_b", "t.a", "t_a", "t-a", "a__b", "t.a-b", "t.a_b", "z-", "x002d")
DAMAGED = "damaged"
ROWS = Dataset.from_arrow(pa.table({"x": pa.array([1, 2, 3])}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--datasets", type=int, default=1_000)
    parser.add_argument("--routines", type=int, default=100)
    parser.add_argument("--burst", type=int, default=5_000)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    with measured(f"made {given.datasets} datasets"):
        for number in range(given.datasets):
            ROWS.save(f"d{number:05}")
        for name in (*ODD_NAMES, DAMAGED):
            ROWS.save(name)
    lake = Lake.current()
    Path(lake.heads()[DAMAGED].removeprefix("file://")).write_text("")
    lake.close()
    routines = [Routine(f"r{n}", lambda rows: rows, f"d{n:05}", f"out{n:05}") for n in range(given.routines)]
    with measured("definitions loaded"):
        defs = build_definitions(routines, catalog_datasets())
        defs.get_repository_def().load_all_definitions()
    with tempfile.TemporaryDirectory() as place, DagsterInstance.local_temp(place) as instance:
        watch(instance, routines)
        burst(instance, given.burst)


def watch(instance: DagsterInstance, routines: list[Routine]) -> None:
    names = catalog_datasets()
    versions, starting = Ticking(instance, versions_sensor(names)), Ticking(instance, routines_sensor(routines))
    with measured("first tick of the versions sensor, everything is new"):
        versions.tick()
    sound = [name for name in names if name != DAMAGED]
    with measured("ticks until every sound dataset has the partition of its version"):
        left, ticks = sound, 0
        while left and ticks < MOST_TICKS:
            versions.tick()
            left, ticks = [name for name in left if not instance.get_dynamic_partitions(f"{name}_versions")], ticks + 1
    print(f"  {len(sound) - len(left)} of {len(sound)} after {ticks} more ticks; 1 dataset is damaged")
    for name in sound:
        instance.report_runless_asset_event(
            AssetMaterialization(dataset_key(name), partition="v1", metadata={"table_uuid": uuid(name)})
        )
    with measured("ticks until all is settled"):
        versions.until_rest()
    for routine in routines:
        list(run_versions(routine))
        instance.report_runless_asset_event(AssetMaterialization(["routines", routine.name], partition="v1"))
    with measured("routines sensor until all is settled"):
        starting.until_rest()
    for sensor in (versions, starting):
        with measured(f"quiet tick: {sensor.sensor.name}"):
            sensor.tick()
    ROWS.append_to(names[0])
    with measured("tick with one new version"):
        versions.tick()


def burst(instance: DagsterInstance, count: int) -> None:
    name = "burst"
    with measured(f"made {count} versions (of one file, in one change of the metadata)"):
        ROWS.save(name)
        multiply(name, count)
    ticking, longest, ticks = Ticking(instance, versions_sensor([name])), 0.0, 0
    reported: list[int] = []
    with measured(f"ticks over {count} versions, runs taken as done at once"):
        while True:
            began = time.perf_counter()
            result = ticking.tick()
            longest, ticks = max(longest, time.perf_counter() - began), ticks + 1
            if not result.run_requests:
                break
            for request in result.run_requests:
                reported += report(instance, name, request.tags)
    order = [version_of(key) for key in instance.get_dynamic_partitions(f"{name}_versions")]
    print(f"  {ticks} ticks, the longest {longest:.2f} s; in order: {order == sorted(order) and reported == order}")


def multiply(name: str, count: int) -> None:
    """Gives a table ``count`` versions that all say what its only one says: ticks read no more of them than that."""
    table = Lake.current().table(name)
    one, updates = table.snapshots()[0], []
    for number in range(2, count + 1):
        made = one.model_copy(
            update={
                "snapshot_id": one.snapshot_id + number,
                "parent_snapshot_id": one.snapshot_id + number - 1 if number > 2 else one.snapshot_id,
                "sequence_number": number,
                "timestamp_ms": one.timestamp_ms + number,
            }
        )
        updates.append(AddSnapshotUpdate(snapshot=made))
    head = SetSnapshotRefUpdate(ref_name="main", type="branch", snapshot_id=one.snapshot_id + count)
    Lake.current().catalog.commit_table(table, (), (*updates, head))


def report(instance: DagsterInstance, name: str, tags: Any) -> list[int]:
    first, last = (version_of(tags[f"dagster/asset_partition_range_{end}"]) for end in ("start", "end"))
    for version in range(first, last + 1):
        instance.report_runless_asset_event(AssetMaterialization(dataset_key(name), partition=key_of(version)))
    return list(range(first, last + 1))


class Ticking:
    """A sensor, ticked as the daemon does, its requests for partitions applied; runs are only counted."""

    def __init__(self, instance: DagsterInstance, sensor: Any) -> None:
        self.instance, self.sensor, self.cursor = instance, sensor, None

    def tick(self) -> Any:
        with build_sensor_context(self.instance, cursor=self.cursor) as context:
            given = {"catalog": CatalogResource(), "reload": ReloadResource()}
            result = self.sensor(context, **{name: given[name] for name in self.sensor.required_resource_keys})
        for request in result.dynamic_partitions_requests or []:
            self.instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
        self.cursor = result.cursor
        return result

    def until_rest(self) -> None:
        ticks, longest, resting = 0, 0.0, False
        while not resting and ticks < MOST_TICKS:
            before, began = SensorCursor.parse(self.cursor).settled, time.perf_counter()
            result = self.tick()
            asked = result.run_requests or result.dynamic_partitions_requests
            resting = not asked and before == SensorCursor.parse(self.cursor).settled
            longest, ticks = max(longest, time.perf_counter() - began), ticks + 1
        print(f"  {ticks} ticks, the longest {longest:.2f} s, the cursor {len(self.cursor or '') / 1024:.0f} KiB")


def uuid(name: str) -> str:
    return str(Lake.current().table(name).metadata.table_uuid)


@contextmanager
def measured(what: str) -> Iterator[None]:
    queries = 0

    def counted(*_: Any) -> None:
        nonlocal queries
        queries += 1

    engine = Lake.current().catalog.engine  # type: ignore[attr-defined]  # the embedded catalog is SQL
    event.listen(engine, "before_cursor_execute", counted)
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", counted)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"{what}: {wall:.2f} s ({cpu:.2f} s CPU), {queries} catalog queries", flush=True)


if __name__ == "__main__":
    main()
