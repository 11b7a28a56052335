"""Planning and metadata at size: a keyed table of up to 10,000 files and a billion rows, and up to 1,000 indexes.

    python sdk/benchmarks/scale.py [--files 100 1000 10000] [--indexes 10 100 1000]

The files have 100,000 rows each, but only a key and a constant, so that they take 3 KB; their manifest entries say that
they have 100 MB. The files of the indexes are a few bytes. Each size is measured in a process of its own, in CPU
seconds, after everything was done once with a table of one row. Writing the files takes most of the time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lakefeed import Dataset, Table, connect
from lakefeed.catalog import Lake, commit
from lakefeed.catalog.staged_files import dump_file, load_file
from lakefeed.catalog.table_rows import write_sorted_rows
from lakefeed.expressions import text
from lakefeed.formats import parquet_format
from lakefeed.formats.parquet_format import ParquetFile
from lakefeed.garbage import collect_garbage
from lakefeed.keyed.index_creation import create_index, definition_of, indexed_rows
from lakefeed.keyed.open_index import open_state
from lakefeed.keyed.text_index import TextIndex

ROWS, FILE_BYTES, FILES_A_COMMIT = 100_000, 100_000_000, 100
STRIDE = 7_919
"""Files come in an order that is not that of their keys."""
TAKEN, RANGES, COMMITS = 1_000, 50, 3
SMALL, BIG = "small", "big"


# ------------------------------------------------------------------------------------------ the lake


def batch_of(number: int, schema: pa.Schema) -> pa.RecordBatch:
    keys = np.arange(number * ROWS, (number + 1) * ROWS)
    return pa.RecordBatch.from_arrays([pa.array(keys), pa.array(np.zeros(ROWS, np.int64))], schema=schema)


def first_key(index: int, most: int) -> int:
    """Returns the first key of the file that was written at this place."""
    return index * STRIDE % most * ROWS


def far_keys(files: int, most: int) -> pa.Array[Any]:
    """Returns keys of rows all over the files."""
    draw = np.random.default_rng()
    places = draw.choice(max(files, 1), TAKEN)
    starts = np.array([first_key(int(place), most) for place in places])
    return pa.array(np.unique(starts + draw.choice(ROWS, TAKEN)))


def write_pretended(
    lake: Lake, table: Any, declared: pa.Schema, builder: Any, batches: Iterable[pa.RecordBatch]
) -> tuple[Any, ...]:
    """Writes each batch into a file of its own, of which the manifest says that it is large."""
    files = [file for batch in batches for file in write_sorted_rows(lake, table, declared, builder, [batch])]
    return tuple(load_file({**dump_file(file), "bytes": FILE_BYTES}) for file in files)


def add_files(before: int, count: int, most: int) -> None:
    table = connect().table(BIG)
    order = [first_key(index, most) // ROWS for index in range(before, count)]
    for start in range(0, len(order), FILES_A_COMMIT):
        batches = (batch_of(number, table.schema()) for number in order[start : start + FILES_A_COMMIT])
        commit.append(table.lake, BIG, batches, schema=table.schema(), write=write_pretended)


def add_index(name: str, of: str, files: Path) -> None:
    """Makes an index with two segment files that nobody can search."""
    lake, table = Lake.current(), connect().table(of)
    rows = indexed_rows(lake, [{"body": table["body"]}], None)
    index = TextIndex(lake, create_index(lake, definition_of(name, "text", rows, {"body": "default"}), False))
    segments = {"meta.json": files / "meta.json", "a.store": files / "a.store"}
    for path in segments.values():
        path.write_text(name)
    index.ledger.commit(index.ledger.load(), rows.position, [], segments)


def build(sizes: list[tuple[int, int]], home: Path) -> Iterator[tuple[int, int]]:
    client, files, indexes, most = connect(), 0, 0, max(count for count, _ in sizes)
    for name in (SMALL, BIG):
        table = client.create_table(name, key_schema={"id": pa.int64()})
        table.write(pa.table({"id": [-1], "x": [0]}))
    client.create_table("pages", key_schema={"id": pa.int64()}).write({"id": [1], "body": ["a black cat"]})
    client.create_text_index("words", text.field(client.table("pages")["body"]))
    for count, more in sizes:
        add_files(files, count, most)
        for number in range(indexes, more):
            add_index(f"index{number:04}", "pages", home)
        files, indexes = count, more
        yield count, more


# ------------------------------------------------------------------------------------------ measurements


class Meter:
    """Measures acts, and counts the data files that they opened."""

    def __init__(self) -> None:
        self.results: dict[str, float] = {}
        self.opened = 0
        read = ParquetFile._read_footer

        def counted(file: ParquetFile) -> Any:
            self.opened += 1
            return read(file)

        ParquetFile._read_footer = counted  # type: ignore[method-assign]  # to count

    def cpu(self, name: str, act: Callable[[], Any], times: int = 1, opened: bool = False) -> Any:
        parquet_format._footers.clear()
        self.opened, began = 0, time.process_time()
        result = act()
        self.results[f"{name}, s"] = round((time.process_time() - began) / times, 4)
        if opened:
            self.results[f"{name}, files opened"] = self.opened
        return result


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def metadata_bytes(table: Table) -> dict[str, int]:
    folder = Path(table.lake.table(table.identifier).metadata.location.removeprefix("file://")) / "metadata"
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def read(meter: Meter, name: str, files: int, most: int) -> None:
    table, middle = connect().table(name), first_key(files // 2, most)
    before = peak_mb()
    planned = meter.cpu("plan of a scan, cold", lambda: table.scan()._reader.base.source.files)
    meter.results["plan, MB"] = round(peak_mb() - before, 1)
    meter.results["files"] = len(planned)
    meter.cpu("first row, plan not cached", lambda: next(iter(Dataset(name))))
    table.lake.close()  # as in a process that has loaded no table
    meter.cpu("first row, plan cached", lambda: next(iter(Dataset(name))))
    meter.cpu("scan where id = …", lambda: table.scan(where=f"id = {middle}").to_table(), opened=True)
    keys = pa.table({"id": far_keys(files, most)})
    meter.cpu(f"take of {TAKEN} far keys", lambda: table.scan().to_table(key_table=keys), opened=True)
    few = keys.take([0, len(keys) - 1])
    meter.cpu("take of 2 far keys", lambda: table.scan().to_table(key_table=few), opened=True)
    shards = meter.cpu("shards", lambda: table.scan().shards(), opened=True)
    meter.results["number of shards"] = len(shards)
    scan, some = table.scan("x"), [shards[len(shards) * part // RANGES] for part in range(RANGES)]
    meter.cpu("one shard of many", lambda: [scan.to_table(shards=[each]) for each in some[: len(shards)]], times=RANGES)


def write(meter: Meter, name: str, files: int, most: int) -> None:
    table, before = connect().table(name), {}
    version = table.snapshot().version
    for turn in range(COMMITS):
        before = metadata_bytes(table)
        row = {"id": [-100 - turn - int(time.time())], "x": [1]}
        meter.cpu("write of one new row", lambda row=row: table.write(row))  # type: ignore[misc]
    new = {path: size for path, size in metadata_bytes(table).items() if path not in before}
    for label, kind in (("metadata.json", ".json"), ("manifest list", "snap-"), ("manifests", "-m")):
        meter.results[f"{label}, KB"] = round(sum(size for path, size in new.items() if kind in path) / 1024, 1)
    meter.results["metadata files of a write"] = len(new)
    keys = far_keys(files, most)
    rows = pa.table({"id": keys, "x": np.ones(len(keys), np.int64)})
    meter.cpu(f"upsert of {TAKEN} far keys", lambda: table.write(rows), opened=True)
    meter.cpu("plan of a scan after it", lambda: table.scan()._reader.base.source.files)
    meter.results["peak memory, MB"] = round(peak_mb(), 1)
    Dataset(name).restore(version)  # plans of versions with delete files are not cached


def search(meter: Meter, name: str) -> None:
    client, lake = connect(), Lake.current()
    found = meter.cpu("list_indexes", client.list_indexes)
    meter.results["indexes"] = len(found)

    def look_up() -> None:
        index, state = open_state(lake, name)
        rows = index.newest_rows()
        index.state_to_search(state, rows, timedelta(0))

    meter.cpu("look-ups of a search", look_up)
    meter.cpu("search", lambda: client.search(3, text.find(client.index("words")["body"], "cat")).read_all())
    index = client.index(name)
    meter.cpu("refresh that finds nothing to do", index.refresh)
    meter.cpu("the same again", index.refresh)


def collect(meter: Meter) -> None:
    report = meter.cpu("garbage collection, first", collect_garbage)
    meter.results["data files that it read"] = report.files_read
    meter.cpu("garbage collection, again", collect_garbage)


def tick(meter: Meter, indexes: int, lagging: bool) -> None:
    """Measures ticks of the sensor of indexes: without changes, and after a version of the table."""
    try:
        sys.path.insert(0, str(Path(__file__).parents[2]))
        from dagster import DagsterInstance, build_sensor_context

        from dataset_assets.index import text_index
        from resources.catalog_resource import CatalogResource
        from sensors.indexes_sensor import indexes_sensor
    except ImportError:
        return
    names = [f"index{number:04}" for number in range(indexes)]
    sensor = indexes_sensor([text_index(name, on="pages", fields=["body"]) for name in names])

    def once(cursor: str | None) -> Any:
        with build_sensor_context(instance, cursor=cursor) as context:
            return sensor(context, catalog=CatalogResource())

    with tempfile.TemporaryDirectory() as folder, DagsterInstance.local_temp(folder) as instance:
        once(None)
        first = meter.cpu("first tick of the sensor of indexes", lambda: once(None))
        meter.cpu("tick without changes", lambda: once(first.cursor))
        if lagging:
            connect().table("pages").write({"id": [int(time.time() * 1000)], "body": ["a dog"]})
            result = meter.cpu("tick after a version", lambda: once(first.cursor))
            meter.results["runs that it requests"] = len(result.run_requests or ())


def measure(files: int, indexes: int, most: int) -> None:
    warm = Meter()
    read(warm, SMALL, 0, 1)
    write(warm, SMALL, 0, 1)
    search(warm, "index0000")
    Lake.current().close()
    meter = Meter()
    read(meter, BIG, files, most)
    write(meter, BIG, files, most)
    search(meter, f"index{indexes - 1:04}")
    collect(meter)
    meter.cpu("heads, which the sensor of versions asks for", Lake.current().heads)
    tick(meter, indexes, files == most)
    print(json.dumps(meter.results), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--indexes", type=int, nargs="+", default=[10, 100, 1_000])
    parser.add_argument("--measure", type=int, nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(*given.measure)
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as home:
        os.environ["LAKEFEED_HOME"] = home
        sizes, columns = list(zip(given.files, given.indexes, strict=True)), []
        began = time.process_time()
        for files, indexes in build(sizes, Path(home)):
            print(f"{files} files, {indexes} indexes: built after {time.process_time() - began:.0f} CPU s", flush=True)
            command = [sys.executable, __file__, "--measure", str(files), str(indexes), str(max(given.files))]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            columns.append(json.loads(output.splitlines()[-1]))
        for name in columns[-1]:
            print(f"{name:48}" + "".join(f"{column.get(name, ''):>12}" for column in columns))


if __name__ == "__main__":
    main()
