"""Upserts into a large keyed table, many upserts in a row, scans and takes: CPU seconds and bytes written.

    python sdk/benchmarks/keyed.py [rows] [--peers PYTHON]

``--peers`` names the Python of an environment with pylance, duckdb and deltalake, which do the same upserts there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 2_000_000
SMALL_UPSERTS = 1_000
SMALL_ROWS = 100


def rows_of(ids: np.ndarray, salt: int) -> pa.Table:
    """Rows of 208 bytes: a key, four numbers, and 168 bytes that do not compress."""
    random = np.random.default_rng(salt)
    texts = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(168), len(ids), [None, pa.py_buffer(random.bytes(168 * len(ids)))]
    )
    return pa.table(
        {
            "id": ids.astype(np.int64),
            "a": random.random(len(ids)),
            "b": random.integers(0, 1_000, len(ids)),
            "c": random.random(len(ids)),
            "blob": texts.cast(pa.binary()),
            "d": random.integers(0, 1 << 60, len(ids)),
        }
    )


def upsert_rows(rows: int, count: int, salt: int) -> pa.Table:
    """Rows of random keys: 90 % are there, 10 % are new."""
    random = np.random.default_rng(salt)
    old = random.choice(rows, count - count // 10, replace=False)
    new = rows + salt * 10_000_000 + np.arange(count // 10)
    return rows_of(random.permutation(np.concatenate([old, new])), salt)


def measure(name: str, act: Callable[[], object], folder: Path) -> dict[str, object]:
    before, began, cpu = stored_bytes(folder), time.perf_counter(), cpu_seconds()
    act()
    return {
        "name": name,
        "cpu": round(cpu_seconds() - cpu, 3),
        "seconds": round(time.perf_counter() - began, 3),
        "MB": round((stored_bytes(folder) - before) / 1e6, 2),
    }


def cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system


def stored_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def report(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)


def lakefeed(rows: int, folder: Path, small: int) -> None:
    os.environ["LAKEFEED_HOME"] = str(folder / "lakefeed")
    from lakefeed import Dataset
    from lakefeed.catalog.commit import create
    from lakefeed.catalog.lake import Lake
    from lakefeed.catalog.version_files import data_files
    from lakefeed.dataset.core import plan_of
    from lakefeed.run.row_edits import upsert_into
    from lakefeed.run.save import Writing

    warehouse, lake = folder / "lakefeed", Lake.current()
    schema = rows_of(np.arange(1), 0).schema
    keyed = schema.set(0, schema.field("id").with_nullable(False))
    create(lake, "t", keyed, (), key=["id"])

    def upsert(table: pa.Table, name: str = "t", compare: bool = False) -> None:
        upsert_into(lake, plan_of(Dataset.from_arrow(table), "upsert_into"), name, ("id",), Writing.of({}), compare)

    upsert(rows_of(np.arange(rows), 0))
    upsert(upsert_rows(rows, 100, 9))
    for count in (1_000, 100_000):
        for salt in (1, 2):
            table = upsert_rows(rows, count, salt * count)
            report(measure(f"lakefeed upsert {count}", lambda table=table: upsert(table), warehouse))
    table = upsert_rows(rows, 1_000, 7)
    report(measure("lakefeed upsert 1000, compared", lambda: upsert(table, compare=True), warehouse))
    read_lakefeed(rows, warehouse)
    create(lake, "s", keyed, (), key=["id"])
    upsert(rows_of(np.arange(100_000), 0), "s")
    hundreds: list[float] = []
    for first in range(0, small, 100):
        cpu = cpu_seconds()
        for index in range(first, min(first + 100, small)):
            upsert(upsert_rows(100_000, SMALL_ROWS, 100 + index), "s")
        hundreds.append(round(cpu_seconds() - cpu, 2))
    files = data_files(lake, lake.table("s"))
    opened = {file.path for file in files} | {each.path for file in files for each in file.deletes}
    report({"name": f"lakefeed {small} upserts of {SMALL_ROWS}", "cpu of each hundred": hundreds, "files": len(opened)})


def read_lakefeed(rows: int, warehouse: Path) -> None:
    """Scans in the order of the key and takes: of many runs, after a compaction, and with 1 % of the rows deleted."""
    from lakefeed import Dataset, Table
    from lakefeed.catalog.version_files import data_files

    table = Table("t")

    def scan() -> None:
        for _ in table.scan().to_record_batches(hide_progress_bar=True):
            pass

    def plain() -> None:
        for _ in Dataset("t").batches(format="arrow"):
            pass

    def load() -> None:
        for _ in Dataset("t").select(["id", "a", "b"]).shuffle(seed=1, window=65_536).to_torch(batch_size=1024):
            pass

    next(iter(Dataset.from_dict({"x": [1]}).to_torch()))  # imports torch
    files = len(data_files(table.lake, table.lake.table("t")))
    report(measure(f"lakefeed key-ordered scan, {files} files", scan, warehouse))
    report(measure("lakefeed compact", table.compact, warehouse))
    report(measure("lakefeed key-ordered scan, compact", scan, warehouse))
    report(measure("lakefeed plain scan, compact", plain, warehouse))
    report(measure("lakefeed windowed loader of 3 columns, compact", load, warehouse))
    for name, keys in takes(rows).items():
        for columns in (["id", "a"], []):
            take = table.scan(*columns)
            label = f"lakefeed take 1000 {name}, {len(columns) or 'all'} columns"
            report(measure(label, lambda take=take, keys=keys: take.to_table(key_table=keys), warehouse))
    table.delete_keys(np.random.default_rng(5).choice(rows, rows // 100, replace=False).tolist())
    report(measure("lakefeed plain scan, 1 % deleted", plain, warehouse))
    report(measure("lakefeed windowed loader of 3 columns, 1 % deleted", load, warehouse))


def takes(rows: int) -> dict[str, pa.Table]:
    """Keys to take: far from each other, and near."""
    random = np.random.default_rng(11)
    return {
        "far": pa.table({"id": random.choice(rows, 1_000, replace=False).astype(np.int64)}),
        "near": pa.table({"id": np.arange(rows // 2, rows // 2 + 1_000, dtype=np.int64)}),
    }


def lance(rows: int, folder: Path) -> None:
    import lance  # type: ignore[import-not-found]  # of the environment of the peers

    path = folder / "lance"
    dataset = lance.write_dataset(rows_of(np.arange(rows), 0), str(path))
    for index in ("none", "BTREE"):
        if index != "none":
            dataset.create_scalar_index("id", index)
        for count in (1_000, 100_000):
            table = upsert_rows(rows, count, count + len(index))

            def merge(table: pa.Table = table) -> None:
                merging = lance.dataset(str(path)).merge_insert("id")
                merging.when_matched_update_all().when_not_matched_insert_all().execute(table)

            report(measure(f"lance upsert {count}, index {index}", merge, path))
    for name, keys in takes(rows).items():
        text = ", ".join(map(str, keys["id"].to_pylist()))
        for columns in (["id", "a"], None):

            def take(columns: list[str] | None = columns, text: str = text) -> None:
                lance.dataset(str(path)).to_table(columns=columns, filter=f"id IN ({text})")

            report(measure(f"lance take 1000 {name}, {len(columns) if columns else 'all'} columns", take, path))


def duck(rows: int, folder: Path) -> None:
    import duckdb

    path = folder / "duck"
    path.mkdir()
    connection = duckdb.connect(str(path / "t.db"))
    first = rows_of(np.arange(rows), 0)
    connection.register("first", first)
    connection.sql("CREATE TABLE t AS SELECT * FROM first")
    connection.sql("ALTER TABLE t ADD PRIMARY KEY (id)")
    for count in (1_000, 100_000):
        connection.register("given", upsert_rows(rows, count, count))

        def replace() -> None:
            connection.execute("INSERT OR REPLACE INTO t SELECT * FROM given")
            connection.execute("CHECKPOINT")

        report(measure(f"duckdb upsert {count}", replace, path))
    pq.write_table(first, path / "t.parquet", row_group_size=32_768, compression="zstd")
    source = f"read_parquet('{path / 't.parquet'}')"

    def order() -> None:
        for _ in connection.sql(f"SELECT * FROM {source} ORDER BY id").to_arrow_reader(131_072):
            pass

    report(measure("duckdb ORDER BY of a sorted Parquet file", order, path))
    for name, keys in takes(rows).items():
        connection.register("wanted", keys)
        for columns in ("id, a", "*"):
            query = f"SELECT {columns} FROM {source} SEMI JOIN wanted USING (id)"
            label = f"duckdb take 1000 {name}, {columns}"
            report(measure(label, lambda query=query: connection.sql(query).to_arrow_table(), path))


def delta(rows: int, folder: Path) -> None:
    from deltalake import DeltaTable, write_deltalake  # type: ignore[import-not-found]  # of the environment of peers

    path = folder / "delta"
    write_deltalake(str(path), rows_of(np.arange(rows), 0))
    for count in (1_000, 100_000):
        table = upsert_rows(rows, count, count)

        def merge(table: pa.Table = table) -> None:
            merging = DeltaTable(str(path)).merge(table, "s.id = t.id", source_alias="s", target_alias="t")
            merging.when_matched_update_all().when_not_matched_insert_all().execute()

        report(measure(f"delta-rs upsert {count}", merge, path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="?", type=int, default=ROWS)
    parser.add_argument("--small", type=int, default=SMALL_UPSERTS, help="the number of small upserts in a row")
    parser.add_argument("--peers", help="the Python of an environment with the peers")
    parser.add_argument("--peer", choices=["lance", "duck", "delta"], help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if chosen.peer:
            {"lance": lance, "duck": duck, "delta": delta}[chosen.peer](chosen.rows, Path(folder))
            return
        lakefeed(chosen.rows, Path(folder), chosen.small)
    for peer in ("lance", "duck", "delta") if chosen.peers else ():
        subprocess.run([chosen.peers, __file__, str(chosen.rows), "--peer", peer], check=False)


if __name__ == "__main__":
    main()
