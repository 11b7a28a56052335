"""Upserts into a large keyed table, and many upserts in a row: CPU seconds and bytes written.

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
    report(measure("lakefeed scan", lambda: [None for _ in Dataset("t").batches(format="arrow")], warehouse))
    create(lake, "s", keyed, (), key=["id"])
    upsert(rows_of(np.arange(100_000), 0), "s")
    hundreds: list[float] = []
    for first in range(0, small, 100):
        cpu = cpu_seconds()
        for index in range(first, min(first + 100, small)):
            upsert(upsert_rows(100_000, SMALL_ROWS, 100 + index), "s")
        hundreds.append(round(cpu_seconds() - cpu, 2))
    report({"name": f"lakefeed {small} upserts of {SMALL_ROWS}", "cpu of each hundred": hundreds})


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
