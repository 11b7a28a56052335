"""The loader against pyarrow reading the same files, raw Arrow, and other loaders, in one run.

    python sdk/benchmarks/loader.py [rows] [--jpegs 4000] [--rounds 5] [--peers] [--home folder-to-keep-the-data]

The contestants of a section take turns, and the best round of each counts, so that a busy machine does not decide.
``goal`` is what the line is to reach of ``base``. The processor time of the rounds is given besides: it says more than
the wall clock where other programs run.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BATCH = 256
CHUNK = 50_000
NUMERIC = ["id", "label", "score", "features"]
WORDS = np.array(
    ["".join(chr(97 + (word * 7 + place * 11) % 26) for place in range(3 + word % 8)) for word in range(4096)]
)
PEER_ROWS = 50_000
JPEG_BATCH = 64
PROCESSES = 2


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


def drained(batches: Iterable[dict[str, Any]]) -> int:
    """Rows of the batches."""
    return sum(len(batch["label"]) for batch in batches)


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


def peers(paths: list[str]) -> dict[str, Callable[[], int]]:
    """Other loaders, shuffled as well as they do, over a part of the rows."""
    found: dict[str, Callable[[], int]] = {}
    if find_spec("datasets"):
        found |= _hugging_face(paths)
    return found


def _hugging_face(paths: list[str]) -> dict[str, Callable[[], int]]:
    import datasets
    from torch.utils.data import DataLoader

    datasets.disable_progress_bars()
    files = {"data_files": paths, "split": "train"}
    streamed = datasets.load_dataset("parquet", streaming=True, **files).select_columns(NUMERIC).with_format("torch")
    mixed = streamed.shuffle(1, buffer_size=10_000).take(PEER_ROWS)
    mapped = datasets.load_dataset("parquet", **files).select_columns(NUMERIC).with_format("torch")
    few = mapped.shuffle(1).select(range(PEER_ROWS))
    return {
        "Hugging Face, streaming, shuffled": lambda: drained(DataLoader(mixed, batch_size=BATCH)),
        "Hugging Face, map-style, shuffled": lambda: drained(DataLoader(few, batch_size=BATCH)),
    }


# ------------------------------------------------------------------------------------------------------- measuring


def section(
    title: str, contestants: dict[str, Callable[[], int]], goals: dict[str, tuple[str, float]], rounds: int
) -> None:
    """Lets the contestants take turns and prints a line for each."""
    taken: dict[str, list[tuple[float, float, int]]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, work in contestants.items():
            begun, worked = time.perf_counter(), time.process_time()
            rows = work()
            taken[name].append((time.perf_counter() - begun, time.process_time() - worked, rows))
    print(f"\n{title}\n{'':36}{'rows/s':>12}{'s CPU/M rows':>14}{'of base':>9}{'goal':>7}  base")
    best = {name: min(seconds / rows for seconds, _, rows in times) for name, times in taken.items()}
    for name, times in taken.items():
        base, goal = goals.get(name, ("", 0.0))
        ratio = f"{best[base] / best[name]:9.2f}{goal:7.2f}  {base}" if base else ""
        worked = min(seconds / rows for _, seconds, rows in times) * 1e6
        print(f"{name:36}{1 / best[name]:12,.0f}{worked:14.2f}{ratio}", flush=True)


def line(name: str, value: float, goal: float, unit: str) -> None:
    """Prints a line of its own."""
    print(f"{name:36}{value:12,.3f} {unit:10}{goal:12,.3f}", flush=True)


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


# ---------------------------------------------------------------------------------------------------------- images


def jpegs(folder: Path, count: int) -> list[str]:
    """Photos of 320 x 240, about 20 KB each."""
    from PIL import Image

    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(1)
    places = [folder / f"{index:06d}.jpg" for index in range(count)]
    for place in places:
        if not place.exists():
            rough = Image.fromarray(random.integers(0, 256, (30, 40, 3), dtype=np.uint8))
            rough.resize((320, 240), Image.Resampling.BICUBIC).save(place, quality=90)
    return [str(place) for place in places]


def decoded(content: bytes) -> Any:
    """The pixels."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def decode_files(places: list[str]) -> int:
    """Bare PIL over some files."""
    return sum(decoded(Path(place).read_bytes()).shape[0] > 0 for place in places)


def decode_batch(batch: dict[str, Any]) -> dict[str, Any]:
    """``collate_fn``: a batch of images as one tensor."""
    import torch

    images = [decoded(content) for content in batch["photo"]]
    return {"label": batch["label"], "photo": torch.from_numpy(np.stack(images))}


def bare(places: list[str]) -> int:
    """Bare PIL in as many processes."""
    parts = [places[start : start + JPEG_BATCH] for start in range(0, len(places), JPEG_BATCH)]
    with ProcessPoolExecutor(PROCESSES) as pool:
        return sum(pool.map(decode_files, parts))


# ------------------------------------------------------------------------------------------------------------ main


def main(arguments: argparse.Namespace) -> None:
    """Prints the table."""
    from lakefeed import Dataset
    from lakefeed.catalog.files import data_files
    from lakefeed.catalog.lake import Lake

    rows, rounds = arguments.rows, arguments.rounds
    if not Dataset.exists("loader"):
        Dataset.from_batches(lambda: chunks(rows), schema=next(chunks(1)).schema).save("loader")
    data = Dataset("loader", version=1)
    lake = Lake.current()
    table = lake.table("loader")
    snapshot = table.current_snapshot().snapshot_id
    paths = [file.path.removeprefix("file://") for file in data_files(lake, table, snapshot)]
    numeric = data.select(NUMERIC)
    windowed = numeric.shuffle(1, global_=False)
    loaders = {
        "lakefeed, in order": numeric.to_torch(batch_size=BATCH),
        "lakefeed, windowed shuffle": windowed.to_torch(batch_size=BATCH),
        "lakefeed, global shuffle": numeric.shuffle(1).to_torch(batch_size=BATCH),
    }
    print(f"{rows:,} rows, batches of {BATCH}, best of {rounds} rounds, {os.cpu_count()} processors")
    section(
        f"numeric columns ({', '.join(NUMERIC)}), from Parquet",
        {
            "pyarrow.parquet, one thread": lambda: parquet(paths, NUMERIC),
            "pyarrow.dataset": lambda: arrow_dataset(paths, NUMERIC),
            **{name: lambda loader=loader: drained(loader) for name, loader in loaders.items()},
            "lakefeed in order, of dataset": lambda: drained(loaders["lakefeed, in order"]),
        },
        {
            "lakefeed, in order": ("pyarrow.parquet, one thread", 1.3),
            "lakefeed, windowed shuffle": ("pyarrow.parquet, one thread", 0.95),
            "lakefeed in order, of dataset": ("pyarrow.dataset", 0.9),
        },
        rounds,
    )
    everything = data.to_torch(batch_size=BATCH)
    section(
        "all columns, from Parquet",
        {
            "pyarrow.dataset": lambda: arrow_dataset(paths, None),
            "lakefeed, in order": lambda: drained(everything),
        },
        {"lakefeed, in order": ("pyarrow.dataset", 0.8)},
        max(rounds // 2, 1),
    )
    local = numeric.mapped()
    raw = Path(arguments.home) / "raw.arrow"
    if not raw.exists():
        with pa.ipc.new_file(str(raw), local.schema) as writer:
            for batch in local.batches(32_768, format="arrow"):
                writer.write_batch(batch)
    mirrored, local_shuffled = local.to_torch(batch_size=BATCH), local.shuffle(1).to_torch(batch_size=BATCH)
    section(
        "numeric columns, from a memory map",
        {
            "raw Arrow": lambda: arrow_map(raw),
            "lakefeed mapped(), in order": lambda: drained(mirrored),
            "lakefeed mapped(), shuffled": lambda: drained(local_shuffled),
        },
        {"lakefeed mapped(), in order": ("raw Arrow", 0.7)},
        rounds,
    )
    print(f"\n{'':36}{'':12} {'':10}{'goal':>12}")
    span, near = mixing(windowed.to_torch(batch_size=BATCH), rows)
    line("windowed: a batch spans", span, 0.95, "of table")
    line("windowed: neighbours that stay", near, 0.01, "of rows")
    line("resume at 90 %, windowed", resumed(lambda: windowed.to_torch(batch_size=BATCH), rows), 0.1, "s")
    random = np.random.default_rng(2)
    local[random.integers(0, rows, 1_000)]
    taken = []
    for _ in range(5):
        places, begun = random.integers(0, rows, 1_000), time.perf_counter()
        local[places]
        taken.append((time.perf_counter() - begun) * 1e3)
    line("1,000 random rows of mapped()", statistics.median(taken), 20, "ms")
    for kind, goal in (("in order", 150), ("windowed", 400)):
        found = [child(kind) for _ in range(3)]
        line(f"{kind}: memory over torch's", min(each["MB"] for each in found), goal, "MB")
        if kind == "in order":
            line("first batch after import", min(each["first"] for each in found), 0.4, "s")
    if arguments.peers:
        names = peers(paths)
        part = {"lakefeed, windowed shuffle": lambda: drained(loaders["lakefeed, windowed shuffle"]), **names}
        section(f"other loaders, {PEER_ROWS:,} rows of theirs", part, {}, 2)
    if arguments.jpegs:
        images(Path(arguments.home), arguments.jpegs, max(rounds // 2, 1))


def images(home: Path, count: int, rounds: int) -> None:
    """JPEGs decoded in worker processes."""
    from lakefeed import Dataset

    places = jpegs(home / "jpegs", count)
    if not Dataset.exists("photos"):
        rows = Dataset.from_dict({"label": list(range(count)), "photo": places})
        rows.save("photos", column_types={"photo": "image"}, stats=False)
    loader = (
        Dataset("photos", version=1)
        .shuffle(1)
        .to_torch(batch_size=JPEG_BATCH, num_workers=PROCESSES, load_files="bytes", collate_fn=decode_batch)
    )
    section(
        f"{count:,} JPEGs decoded in {PROCESSES} processes",
        {"bare PIL": lambda: bare(places), "lakefeed, collate_fn": lambda: drained(loader)},
        {"lakefeed, collate_fn": ("bare PIL", 0.95)},
        rounds,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", type=int, nargs="?", default=2_000_000)
    parser.add_argument("--jpegs", type=int, default=4_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--home")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        given.home = given.home or temporary
        os.environ["LAKEFEED_HOME"] = given.home
        main(given)
