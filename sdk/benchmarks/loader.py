"""The loader against pyarrow reading the same files, raw Arrow, and other loaders, in one run.

    python sdk/benchmarks/loader.py [rows] [--jpegs 4000] [--rounds 5] [--peers] [--home folder-to-keep-the-data]
                                    [--only parquet map figures peers images]

The contestants of a section take turns, and the best round of each counts, so that a busy machine does not decide.
``goal`` is what the line is to reach of ``base``. The processor time of the rounds is given besides: it says more than
the wall clock where other programs run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from _loader_images import images
from _loader_peers import BATCH, NUMERIC, PEER_ROWS, drained, peers
from _measuring import line, section

from lakefeed import Dataset, MappedDataset
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.version_files import data_files

CHUNK = 50_000
WORDS = np.array(
    ["".join(chr(97 + (word * 7 + place * 11) % 26) for place in range(3 + word % 8)) for word in range(4096)]
)


def chunks(rows: int) -> Iterator[pa.RecordBatch]:
    """A number, a label, a score, a vector, tokens and a text a row: about 1 KB."""
    random = np.random.default_rng(0)
    for start in range(0, rows, CHUNK):
        count = min(CHUNK, rows - start)
        ends = np.cumsum(random.integers(96, 161, count), dtype=np.int32)
        tokens = random.integers(0, 32_000, ends[-1], dtype=np.int32)
        words = pa.array(WORDS[random.integers(0, len(WORDS), count * 26)])
        yield pa.RecordBatch.from_pydict(
            {
                "id": np.arange(start, start + count),
                "label": random.integers(0, 1000, count, dtype=np.int32),
                "score": random.random(count),
                "features": pa.FixedSizeListArray.from_arrays(random.random(count * 64, dtype=np.float32), 64),
                "tokens": pa.ListArray.from_arrays(np.concatenate([[0], ends]).astype(np.int32), tokens),
                "text": pc.binary_join(pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * 26, words), " "),
            }
        )


# ------------------------------------------------------------------------------------------------- the contestants


def fed(rows: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """What a loop over pyarrow feeds to torch: tensors over the memory of a large batch, sliced."""
    import torch

    whole: dict[str, Any] = {}
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        if pa.types.is_string(column.type):
            whole[name] = column
        elif pa.types.is_list(column.type):
            whole[name] = torch.from_dlpack(column.flatten()), np.asarray(column.offsets).astype(np.int64)
        elif pa.types.is_fixed_size_list(column.type):
            whole[name] = torch.from_dlpack(column.flatten()).reshape(len(column), -1)
        else:
            whole[name] = torch.from_dlpack(column)
    for start in range(0, rows.num_rows, BATCH):
        yield {name: _sliced(column, start, min(start + BATCH, rows.num_rows)) for name, column in whole.items()}


def _sliced(column: Any, start: int, stop: int) -> Any:
    import torch

    if isinstance(column, pa.Array):
        return column.slice(start, stop - start).to_pylist()
    if isinstance(column, tuple):
        values, offsets = column
        inner = torch.from_numpy(offsets[start : stop + 1] - offsets[start])
        return torch.nested.nested_tensor_from_jagged(values[offsets[start] : offsets[stop]], offsets=inner)
    return column[start:stop]


def parquet(paths: list[str], columns: list[str] | None) -> int:
    """pyarrow.parquet in one thread, a row group after the other."""
    import pyarrow.parquet as pq

    rows = 0
    for path in paths:
        with pq.ParquetFile(path, memory_map=True) as file:
            for group in range(file.num_row_groups):
                for batch in file.read_row_group(group, columns=columns, use_threads=False).to_batches():
                    rows += drained(fed(batch))
    return rows


def arrow_dataset(paths: list[str], columns: list[str] | None) -> int:
    """pyarrow.dataset with its threads."""
    import pyarrow.dataset as ds

    return sum(drained(fed(batch)) for batch in ds.dataset(paths).to_batches(columns=columns) if batch.num_rows)


def arrow_map(path: Path) -> int:
    """A memory map of an Arrow file."""
    with pa.memory_map(str(path)) as mapped:
        file = pa.ipc.open_file(mapped)
        return sum(drained(fed(file.get_batch(index))) for index in range(file.num_record_batches))


# ------------------------------------------------------------------------------------------------------- measuring


def mixing(loader: Any, rows: int) -> tuple[float, float]:
    """The part of the table that a batch spans on average, and the part of neighbours that stay neighbours."""
    spans, near, before = [], 0, -2
    for batch in loader:
        ids = batch["id"].numpy()
        spans.append((ids.max() - ids.min()) / rows)
        near += int((np.abs(np.diff(ids, prepend=before)) == 1).sum())
        before = int(ids[-1])
    return float(np.mean(spans)), near / rows


def resumed(make: Callable[[], Any], rows: int) -> float:
    """Seconds to the first batch after 90 % of a shuffled epoch, of a loader that is there."""
    taken = []
    for _ in range(5):
        loader = make()
        loader.load_state_dict(loader.state_dict() | {"position": rows * 9 // 10 // BATCH * BATCH})
        begun = time.perf_counter()
        batches = iter(loader)
        next(batches)
        taken.append(time.perf_counter() - begun)
        batches.close()
    return min(taken)


CHILD = """
import json, resource, sys, time
import torch
def resident():
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
before, begun = resident(), time.perf_counter()
from lakefeed import Dataset
imported = time.perf_counter()
data = Dataset("loader", version=1).select(["id", "label", "score", "features"])
loader = (data.shuffle(1, global_=False) if sys.argv[1] == "windowed" else data).to_torch(batch_size=256)
batches = iter(loader); next(batches)
first = time.perf_counter() - imported
for batch in batches: pass
print(json.dumps({"import": imported - begun, "first": first, "MB": resident() - before}))
"""


def child(kind: str) -> dict[str, float]:
    """An epoch in a process of its own."""
    printed = subprocess.run([sys.executable, "-c", CHILD, kind], capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = json.loads(printed.splitlines()[-1])
    return found


# ------------------------------------------------------------------------------------------------------------ main


@dataclass(frozen=True)
class Bench:
    """The dataset that is read, the files that it is in, and how often."""

    home: Path
    rows: int
    rounds: int
    data: Dataset
    paths: list[str]

    @cached_property
    def numeric(self) -> Dataset:
        return self.data.select(NUMERIC)

    @cached_property
    def windowed(self) -> Dataset:
        return self.numeric.shuffle(1, global_=False)

    @cached_property
    def local(self) -> MappedDataset:
        return self.numeric.mapped()


def prepared(home: Path, rows: int, rounds: int) -> Bench:
    """The dataset, saved unless it is there."""
    if not Dataset.exists("loader"):
        Dataset.from_batches(lambda: chunks(rows), schema=next(chunks(1)).schema).save("loader")
    lake = Lake.current()
    table = lake.table("loader")
    files = data_files(lake, table, table.current_snapshot().snapshot_id)
    paths = [file.path.removeprefix("file://") for file in files]
    return Bench(home, rows, rounds, Dataset("loader", version=1), paths)


def from_parquet(bench: Bench) -> None:
    """Numeric columns, then all."""
    loaders = {
        "lakefeed, in order": bench.numeric.to_torch(batch_size=BATCH),
        "lakefeed, windowed shuffle": bench.windowed.to_torch(batch_size=BATCH),
        "lakefeed, global shuffle": bench.numeric.shuffle(1).to_torch(batch_size=BATCH),
    }
    section(
        f"numeric columns ({', '.join(NUMERIC)}), from Parquet",
        {
            "pyarrow.parquet, one thread": lambda: parquet(bench.paths, NUMERIC),
            "pyarrow.dataset": lambda: arrow_dataset(bench.paths, NUMERIC),
            **{name: lambda loader=loader: drained(loader) for name, loader in loaders.items()},
            "lakefeed in order, of dataset": lambda: drained(loaders["lakefeed, in order"]),
        },
        {
            "lakefeed, in order": ("pyarrow.parquet, one thread", 1.3),
            "lakefeed, windowed shuffle": ("pyarrow.parquet, one thread", 0.95),
            "lakefeed in order, of dataset": ("pyarrow.dataset", 0.9),
        },
        bench.rounds,
    )
    everything = bench.data.to_torch(batch_size=BATCH)
    section(
        "all columns, from Parquet",
        {
            "pyarrow.dataset": lambda: arrow_dataset(bench.paths, None),
            "lakefeed, in order": lambda: drained(everything),
        },
        {"lakefeed, in order": ("pyarrow.dataset", 0.8)},
        max(bench.rounds // 2, 1),
    )


def from_map(bench: Bench) -> None:
    """Rows that are mapped into memory."""
    raw = bench.home / "raw.arrow"
    if not raw.exists():
        with pa.ipc.new_file(str(raw), bench.local.schema) as writer:
            for batch in bench.local.batches(32_768, format="arrow"):
                writer.write_batch(batch)
    mirrored, shuffled = bench.local.to_torch(batch_size=BATCH), bench.local.shuffle(1).to_torch(batch_size=BATCH)
    section(
        "numeric columns, from a memory map",
        {
            "raw Arrow": lambda: arrow_map(raw),
            "lakefeed mapped(), in order": lambda: drained(mirrored),
            "lakefeed mapped(), shuffled": lambda: drained(shuffled),
        },
        {"lakefeed mapped(), in order": ("raw Arrow", 0.7)},
        bench.rounds,
    )


def single_figures(bench: Bench) -> None:
    """How well rows are mixed, and what a start, a resume, random rows and memory take."""
    print(f"\n{'':36}{'':12} {'':10}{'goal':>12}")
    span, near = mixing(bench.windowed.to_torch(batch_size=BATCH), bench.rows)
    line("windowed: a batch spans", span, 0.95, "of table")
    line("windowed: neighbours that stay", near, 0.01, "of rows")
    line("resume at 90 %, windowed", resumed(lambda: bench.windowed.to_torch(batch_size=BATCH), bench.rows), 0.1, "s")
    line("1,000 random rows of mapped()", random_rows(bench.local, bench.rows), 20, "ms")
    for kind, goal in (("in order", 150), ("windowed", 400)):
        found = [child(kind) for _ in range(3)]
        line(f"{kind}: memory over torch's", min(each["MB"] for each in found), goal, "MB")
        if kind == "in order":
            line("first batch after import", min(each["first"] for each in found), 0.4, "s")


def random_rows(local: MappedDataset, rows: int) -> float:
    """Milliseconds for 1,000 of them."""
    random = np.random.default_rng(2)
    local[random.integers(0, rows, 1_000)]
    taken = []
    for _ in range(5):
        places, begun = random.integers(0, rows, 1_000), time.perf_counter()
        local[places]
        taken.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(taken)


def others(bench: Bench) -> None:
    """The loaders of others that are installed."""
    ours = bench.windowed.to_torch(batch_size=BATCH)
    goals = {"lakefeed, windowed shuffle": ("Hugging Face, streaming, shuffled", 20.0)}
    contestants = {"lakefeed, windowed shuffle": lambda: drained(ours), **peers(bench.paths, bench.home)}
    section(f"other loaders, {PEER_ROWS:,} rows of theirs", contestants, goals, 2)


def main(arguments: argparse.Namespace) -> None:
    """Prints the table."""
    home, rounds = Path(arguments.home), arguments.rounds
    print(f"{arguments.rows:,} rows, batches of {BATCH}, best of {rounds} rounds, {os.cpu_count()} processors")
    parts = {"parquet": from_parquet, "map": from_map, "figures": single_figures, "peers": others}
    chosen = [name for name in parts if name in arguments.only or (not arguments.only and name != "peers")]
    if chosen:
        bench = prepared(home, arguments.rows, rounds)
        for name in chosen + ["peers"] * (arguments.peers and "peers" not in chosen):
            parts[name](bench)
    if arguments.jpegs and (not arguments.only or "images" in arguments.only):
        images(home, arguments.jpegs, max(rounds // 2, 1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", type=int, nargs="?", default=2_000_000)
    parser.add_argument("--jpegs", type=int, default=4_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--only", nargs="*", default=(), choices=("parquet", "map", "figures", "peers", "images"))
    parser.add_argument("--home")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        given.home = given.home or temporary
        os.environ["LAKEFEED_HOME"] = given.home
        main(given)
