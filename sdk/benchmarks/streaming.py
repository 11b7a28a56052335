"""Streams of files, local and over HTTP, beside Hugging Face `datasets` with ``streaming=True``.

    python sdk/benchmarks/streaming.py [--mb 300] [--seconds 10] [--rounds 3] [--formats csv jsonl parquet]
                                       [--places local http] [--orders order shuffled] [--home folder-to-keep-the-data]
    python sdk/benchmarks/streaming.py --memory 10000 --formats csv     # one epoch of a local file, its peak memory

Every measurement has a process of its own; the two libraries take turns, and the best round of each counts. The time to
the first batch begins after the imports and includes opening the data. The rate is that of batches of 256 rows as dicts
of lists from the first batch on, over the file or ``--seconds``. The server at a loopback port answers each request
after 20 ms.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

BATCH, BUFFER_ROWS = 256, 10_000
LATENCY_SECONDS = 0.02
CHUNK_ROWS = 20_000
BLOCK_BYTES = 1 << 18
FORMATS = ("csv", "jsonl", "parquet")

CHILD = """
import json, os, sys, time
library, kind, order, location, seconds = sys.argv[1:5] + [float(sys.argv[5])]
def resident():
    return next(int(line.split()[1]) >> 10 for line in open("/proc/self/status") if line.startswith("VmHWM"))
if library == "lakefeed":
    from lakefeed import Dataset
else:
    import datasets
    datasets.disable_progress_bars()
imported = resident()
begun = time.perf_counter()
if library == "lakefeed":
    rows = Dataset.from_file(location)
    rows = rows.shuffle(1, global_=False, window=%(buffer)d) if order == "shuffled" else rows
    batches = iter(rows.batches(%(batch)d))
else:
    reader = "json" if kind == "jsonl" else kind
    rows = datasets.load_dataset(reader, data_files=location, split="train", streaming=True)
    rows = rows.shuffle(1, buffer_size=%(buffer)d) if order == "shuffled" else rows
    batches = iter(rows.iter(batch_size=%(batch)d))
next(batches)
first = time.perf_counter()
count, now = 0, first
for batch in batches:
    count += len(batch["id"])
    now = time.perf_counter()
    if now - first > seconds:
        break
print(json.dumps({"first": first - begun, "rate": count / max(now - first, 1e-9), "MB": resident(), "rows": count,
                  "imported": imported}), flush=True)
os._exit(0)  # some threads of remote files do not end by themselves
""".replace("%(batch)d", str(BATCH)).replace("%(buffer)d", str(BUFFER_ROWS))


def chunks(mb: int) -> Iterator[pa.Table]:
    """Yields rows of an id, a label, a score and a text, until their text takes about ``mb`` megabytes."""
    random = np.random.default_rng(0)
    words = np.array(["".join(chr(97 + (word * 7 + step * 11) % 26) for step in range(5)) for word in range(4096)])
    rows = mb * 1_000_000 // 250
    for start in range(0, rows, CHUNK_ROWS):
        count = min(CHUNK_ROWS, rows - start)
        texts = [" ".join(line) for line in words[random.integers(0, len(words), (count, 35))]]
        yield pa.table(
            {
                "id": np.arange(start, start + count),
                "label": random.integers(0, 1000, count),
                "score": random.random(count),
                "text": texts,
            }
        )


def write(path: Path, mb: int) -> None:
    """Writes the rows, unless the file is there."""
    if path.exists():
        return
    temporary = path.with_suffix(".part")
    schema = next(chunks(1)).schema
    if path.suffix == ".parquet":
        with pq.ParquetWriter(temporary, schema, use_dictionary=False) as parquet:
            for table in chunks(mb):
                parquet.write_table(table)
    elif path.suffix == ".csv":
        with csv.CSVWriter(temporary, schema) as lines:
            for table in chunks(mb):
                lines.write_table(table)
    else:
        with temporary.open("w") as file:
            for table in chunks(mb):
                file.writelines(json.dumps(row) + "\n" for row in table.to_pylist())
    temporary.rename(path)


class Handler(BaseHTTPRequestHandler):
    """Serves files with ranges, each answer after `LATENCY_SECONDS`."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *args: Any, home: Path) -> None:
        self.home = home
        super().__init__(*args)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        time.sleep(LATENCY_SECONDS)
        path = self.home / Path(self.path).name
        if not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        stop = min(int(wanted[2]) + 1, size) if wanted and wanted[2] else size
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(stop - start))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{size}"')
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.end_headers()
        if body:
            self._send(path, start, stop)

    def _send(self, path: Path, start: int, stop: int) -> None:
        with path.open("rb") as file:
            file.seek(start)
            while start < stop:
                block = file.read(min(BLOCK_BYTES, stop - start))
                try:
                    self.wfile.write(block)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True
                    return
                start += len(block)

    def log_message(self, *_: Any) -> None:
        """Prints nothing."""


@contextmanager
def serving(home: Path) -> Iterator[str]:
    """Serves a folder; yields its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, home=home))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def measure(library: str, kind: str, order: str, location: str, seconds: float) -> dict[str, float]:
    """Reads a file in a process of its own."""
    command = [sys.executable, "-c", CHILD, library, kind, order, location, str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{library} failed: {done.stderr[-2000:]}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def compare(arguments: argparse.Namespace, home: Path, url: str) -> None:
    """Prints a line for each format, place, order and library."""
    print(f"{'':40}{'first batch':>12}{'rows/s':>12}{'MB':>7}   lakefeed: first batch (goal 1.5), rate (goal 5)")
    for kind in arguments.formats:
        path = home / f"rows-{arguments.mb}.{kind}"
        write(path, arguments.mb)
        for place in arguments.places:
            location = str(path) if place == "local" else f"{url}/{path.name}"
            for order in arguments.orders:
                rounds: dict[str, list[dict[str, float]]] = {"datasets": [], "lakefeed": []}
                for _ in range(arguments.rounds):
                    for library, taken in rounds.items():
                        taken.append(measure(library, kind, order, location, arguments.seconds))
                best = {library: _best(taken) for library, taken in rounds.items()}
                for library, (first, rate) in best.items():
                    ratio = ""
                    if library == "lakefeed":
                        ratio = (
                            f"   {first / best['datasets'][0]:.2f} of theirs, {rate / best['datasets'][1]:.1f} times"
                        )
                    print(f"{f'{kind} {place} {order} {library}':40}{first:10.3f} s{rate:12,.0f}{ratio}", flush=True)


def _best(rounds: list[dict[str, float]]) -> tuple[float, float]:
    return min(each["first"] for each in rounds), max(each["rate"] for each in rounds)


def memory(arguments: argparse.Namespace, home: Path) -> None:
    """Prints the peak memory of one epoch of a local file of ``--memory`` megabytes."""
    for kind in arguments.formats:
        path = home / f"rows-{arguments.memory}.{kind}"
        write(path, arguments.memory)
        for order in arguments.orders:
            measured = measure("lakefeed", kind, order, str(path), float("inf"))
            print(
                f"{kind} {order}: {path.stat().st_size / 1e6:,.0f} MB, {measured['rows']:,.0f} rows, "
                f"peak {measured['MB']} MB (goal 500; {measured['imported']} after the imports)",
                flush=True,
            )


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mb", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--formats", nargs="*", default=FORMATS, choices=FORMATS)
    parser.add_argument("--places", nargs="*", default=("local", "http"), choices=("local", "http"))
    parser.add_argument("--orders", nargs="*", default=("order", "shuffled"), choices=("order", "shuffled"))
    parser.add_argument("--memory", type=int)
    parser.add_argument("--home")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(arguments.home or temporary)
        home.mkdir(parents=True, exist_ok=True)
        if arguments.memory:
            memory(arguments, home)
            return
        with serving(home) as url:
            compare(arguments, home, url)


if __name__ == "__main__":
    main()
