"""An enrichment by two processes of this machine and by two Dask workers: the CPU seconds of both, and their ratio.

    python sdk/benchmarks/enrich_engines.py [--rows 2000000] [--turns 2] [--warm]

Both derive the same column with a function of the user, in turns; the best turn of each counts. The workers are started
in each turn, and all of their CPU time counts. With ``--warm`` those of Dask run already, and have derived a column
before; the processes are still started in each turn. The clock is shown, too, but other work of the machine falsifies
it.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from distributed import Client

from lakefeed import Table, udf
from lakefeed.compute import Processes

WORKERS = 2


@udf(pa.float64())
def slow(numbers: pa.Array) -> pa.Array:
    """A function that takes about a microsecond a row."""
    values = numbers.to_numpy()
    for _ in range(40):
        values = np.sin(values) + 1.0
    return pa.array(values)


def timed(work: Callable[..., object], *arguments: object, **options: object) -> tuple[float, float]:
    """Returns the CPU seconds of the work, with those of its processes, and the seconds on the clock."""
    began, before = time.perf_counter(), cpu_seconds()
    work(*arguments, **options)
    return cpu_seconds() - before, time.perf_counter() - began


def cpu_seconds() -> float:
    """Returns the CPU seconds of this process and of those that it has waited for."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def process_seconds() -> float:
    """Returns the CPU seconds of this process. It runs in workers."""
    return time.process_time()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--warm", action="store_true", help="use a cluster that runs already")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as home:
        os.environ["LAKEFEED_HOME"] = home
        table = Table.create("numbers", key_schema={"id": pa.int64()})
        table.write(pa.table({"id": np.arange(given.rows), "x": np.random.default_rng(0).random(given.rows)}))
        compare(table, given.turns, given.warm)


def compare(table: Table, turns: int, warm: bool) -> None:
    """Prints the best of some turns of each engine."""
    processes, dask = [], []
    cluster = {"n_workers": WORKERS, "threads_per_worker": 1, "dashboard_address": ":0"}
    client = Client(**cluster) if warm else None
    if client is not None:
        table.enrich({"first": slow(table["x"])}).apply_dask(client=client)
    for turn in range(turns):
        processes.append(timed(table.enrich({f"y{turn}": slow(table["x"])}).apply_on, Processes(WORKERS)))
        derive = table.enrich({f"z{turn}": slow(table["x"])}).apply_dask
        if client is None:
            dask.append(timed(derive, **cluster))
            continue
        before = sum(client.run(process_seconds).values())
        cpu, clock = timed(derive, client=client)
        dask.append((cpu + sum(client.run(process_seconds).values()) - before, clock))
    if client is not None:
        client.close()
    for name, results in (("Processes(2)", processes), ("apply_dask", dask)):
        cpu, clock = min(results)
        print(f"{name:14} {cpu:7.2f} CPU s {clock:7.2f} s")
    print(f"ratio          {min(dask)[0] / min(processes)[0]:7.2f}")


if __name__ == "__main__":
    main()
