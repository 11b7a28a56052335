"""Lineage: the cost of a read in a run, and lineages in a lake of many tables and of many versions.

    python sdk/benchmarks/lineage.py [tables] [versions]

The versions of the large graph are rows of the registry, each with a run that has the packages of an environment. All
figures are CPU seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from registry import best, copy_tables, line

from lakefeed import Dataset, lineage, track
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.version_uids import version_uid
from lakefeed.dataset import plan_of
from lakefeed.records.inserts import insert_new
from lakefeed.records.record_registry import Registry
from lakefeed.records.record_tables import INPUT, ORIGIN, RECORD, RUN
from lakefeed.records.version_rows import run_uid
from lakefeed.run.read_tracking import track_reads

TABLES, VERSIONS = 1_000, 5_000
READS = 40
PACKAGES = {f"package-{number}": "1.2.3" for number in range(300)}


def spent(work: Callable[[], object]) -> float:
    begun = time.thread_time()
    work()
    return time.thread_time() - begun


def reads() -> None:
    for _ in range(READS):
        Dataset.from_dict({"x": [1, 2, 3]}).save("read", if_exists="append")
    plans = [
        plan_of(Dataset("read", version=number + 1).filter("x > 1").shuffle(seed=1), "benchmark")
        for number in range(READS)
    ]
    with track():
        line(
            "the first read of a version, in a run",
            min(spent(lambda plan=plan: track_reads(plan)) for plan in plans),
            0.001,
        )
        line("a further read of it", best(lambda: [track_reads(plans[0]) for _ in range(100)]) / 100, 0.001)
    line("a run that reads nothing", best(lambda: track().finish()), 0.05)


def many_tables(tables: int) -> None:
    Dataset.from_dict({"x": [1]}).save("a")
    for source, target in (("a", "b"), ("b", "c")):
        with track(target):
            Dataset(source).save(target)
    lake = Lake.current()
    copy_tables(lake, "a", tables)
    Registry.open(lake).catch_up()
    line(f"lineage of 3 tables in a lake of {tables:,}", best(lambda: lineage("c")), 0.1)


def many_versions(count: int) -> None:
    lake = Lake.current()
    table, source = (str(lake.table(name).metadata.table_uuid) for name in ("c", "b"))
    stem = version_uid(table, 1)[:16]
    runs, records, origins, inputs = [], [], [], []
    for number in range(2, count + 1):
        run, uid = run_uid(f"run-{number}"), version_uid(table, number)
        read = {"dataset": "b", "table": source, "version": 1, "snapshot": 7, "plan": "1f"}
        origin = {"number": number, "snapshot": number, "parent": number - 1, "at": number, "rows": 1, "inputs": [read]}
        origin |= {"run": f"run-{number}", "code": "train.py sha256:1f git:2e"}
        text, facts = json.dumps(origin), json.dumps({"packages": PACKAGES})
        origins.append(
            {"table_uuid": table, "revision": number, "snapshot": number, "run": origin["run"], "json": text}
        )
        times = {"created": number, "updated": number}
        records.append({"uid": uid, "stem": stem, "revision": number, "kind": "dataset", "table_uuid": table, **times})
        runs.append(
            {"uid": run, "external": origin["run"], "name": f"train {number}", "facts_json": facts, "created": 1}
        )
        inputs.append({"run": run, "record": version_uid(source, 1), "at": number})
    with Registry.open(lake).write() as connection:
        for rows, into in ((runs, RUN), (records, RECORD), (origins, ORIGIN), (inputs, INPUT)):
            insert_new(connection, into, rows)
    graph = lineage("b")
    line(f"lineage of {len(graph.nodes):,} nodes, {len(graph.edges):,} edges", best(lambda: lineage("b"), 3), 1)
    line("its picture, of the nearest 200", best(lambda: graph.svg, 3), 0.1)
    line("its events of OpenLineage", best(graph.openlineage, 2), 2)


def main() -> None:
    tables, versions = (int(each) for each in (*sys.argv[1:], *(TABLES, VERSIONS)[len(sys.argv) - 1 :]))
    home = tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    os.environ["LAKEFEED_HOME"] = home
    try:
        print(f"{'':44}{'best':>15}{'goal':>15}")
        reads()
        many_tables(tables)
        many_versions(versions)
    finally:
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
