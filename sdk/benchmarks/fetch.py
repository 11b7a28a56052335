"""Fetching files of rows: against bare connections, against plain files, and in memory.

A loopback server in a process of its own takes 10 ms for a request. Figures that were asked for:

    epoch of 4,000 x 70 KB      at least 0.8 of 8 threads with bare keep-alive connections (urllib3)
    first batch of 64           at most 128 fetches
    warm epoch                  at least 0.9 of open().read() of the same files
    300 x 8 MB                  resident memory at most the budget + 200 MB

Run: python sdk/benchmarks/fetch.py [--files 4000] [--big 300] [--rounds 3]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

LATENCY_SECONDS = 0.01
SMALL_BYTES = 70_000
BIG_BYTES = 8_000_000
THREADS = 8
BUDGET = 64_000_000
BATCH = 64
WARM_TURNS = 6
Timed: TypeAlias = tuple[float, float]
Pair: TypeAlias = tuple[Timed, Timed]


def serve(port: Any, asked: Any) -> None:
    """``GET /<size>/<number>``: so many bytes, different for each number."""
    content = os.urandom(BIG_BYTES + 100_000)
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    port.value = listening.getsockname()[1]

    def talk(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        held = b""
        while True:
            while b"\r\n\r\n" not in held:
                piece = connection.recv(1 << 16)
                if not piece:
                    connection.close()
                    return
                held += piece
            head, _, held = held.partition(b"\r\n\r\n")
            found = re.match(rb"GET /(\d+)/(\d+)", head)
            assert found is not None
            size, number = map(int, found.groups())
            with asked.get_lock():
                asked.value += 1
            time.sleep(LATENCY_SECONDS)
            connection.sendall(b'HTTP/1.1 200 OK\r\nETag: "%d"\r\nContent-Length: %d\r\n\r\n' % (number, size))
            connection.sendall(memoryview(content)[number : number + size])

    while True:
        connection, _ = listening.accept()
        threading.Thread(target=talk, args=(connection,), daemon=True).start()


@contextmanager
def serving() -> Iterator[tuple[str, Any]]:
    context = multiprocessing.get_context("spawn")
    port, asked = context.Value("i", 0), context.Value("i", 0)
    server = context.Process(target=serve, args=(port, asked), daemon=True)
    server.start()
    try:
        while not port.value:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port.value}", asked
    finally:
        server.kill()
        server.join()


def timed(what: Callable[[], object]) -> Timed:
    """Seconds on the clock and of the processor."""
    begun, used = time.perf_counter(), time.process_time()
    what()
    return time.perf_counter() - begun, time.process_time() - used


def bare(urls: list[str]) -> None:
    import urllib3

    with urllib3.PoolManager(maxsize=THREADS) as manager, ThreadPoolExecutor(THREADS) as pool:
        for size in pool.map(lambda url: len(manager.request("GET", url).data), urls):
            assert size == SMALL_BYTES


def plain(paths: list[Path]) -> None:
    for path in paths:
        with path.open("rb") as file:
            assert len(file.read()) == SMALL_BYTES


def epoch(name: str) -> None:
    from lakefeed import Dataset

    for batch in Dataset(name).load_files("bytes").batches(BATCH, format="arrow"):
        assert batch["f"].null_count == 0


def speed(pairs: list[Pair]) -> float:
    """The best times of both against each other: what the work takes where nobody disturbs it."""
    bases, ours = zip(*pairs, strict=True)
    return float(min(bases)[0] / min(ours)[0])


def put_by(cache: Path) -> None:
    """An empty cache. Not by removing files: for half a minute ext4 looks for inodes that were not just in use."""
    if cache.exists():
        cache.rename(tempfile.mkdtemp(dir=cache.parent))


def small(url: str, asked: Any, files: int, rounds: int) -> None:
    from lakefeed import Dataset

    urls = [f"{url}/{SMALL_BYTES}/{number}" for number in range(files)]
    Dataset.from_dict({"f": urls}).save("small", column_types={"f": "image"})
    cold: list[Pair] = []
    warm: list[Pair] = []
    cache = Path(os.environ["LAKEFEED_CACHE_DIR"])
    for _ in range(rounds):
        # In turns, so that what else the machine does meets both.
        base = timed(lambda: bare(urls))
        put_by(cache)
        ours = timed(lambda: epoch("small"))
        cold.append((base, ours))
        print(f"cold: bare {base[0]:.2f} s (cpu {base[1]:.2f}), epoch {ours[0]:.2f} s (cpu {ours[1]:.2f})")
        paths = [path for path in (cache / "sha256").rglob("*") if path.is_file()]
        assert len(paths) == files
        plain(paths)
        for _ in range(WARM_TURNS):
            base, ours = timed(partial(plain, paths)), timed(lambda: epoch("small"))
            warm.append((base, ours))
            print(f"warm: open().read() {base[0]:.3f} s (cpu {base[1]:.2f}), epoch {ours[0]:.3f} s (cpu {ours[1]:.2f})")
    print(f"epoch over the web: {speed(cold):.2f} of bare connections (asked for: 0.8)")
    print(f"warm epoch: {speed(warm):.2f} of plain files (asked for: 0.9)")
    put_by(cache)
    before = asked.value
    batches = Dataset("small").load_files("bytes").batches(BATCH, format="arrow")
    next(batches)
    print(f"first batch of {BATCH}: {asked.value - before} fetches (asked for: {2 * BATCH})")
    batches.close()


SAVE = """
from lakefeed import Dataset
urls = [f"{url}/{size}/{{number}}" for number in range({files})]
Dataset.from_dict({{"f": urls}}).save("big", column_types={{"f": "file"}})
"""
ROWS = """
from pathlib import Path
from lakefeed import Dataset
assert sum(row["f"] is not None for row in Dataset("big")) == {files}
print(*[line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")])
"""
LOAD = """
from pathlib import Path
from lakefeed import Dataset
files = Dataset("big").load_files("bytes", max_inflight_bytes={budget})
assert sum(len(row["f"]) for row in files) == {files} * {size}
print(*[line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")])
"""


def memory(url: str, files: int) -> None:
    """Each step in a process of its own: what saves has other things in memory than what reads.

    Not ``ru_maxrss``, in which a child begins with what its parent had.
    """

    def done(program: str) -> str:
        text = program.format(url=url, size=BIG_BYTES, files=files, budget=BUDGET)
        return subprocess.run([sys.executable, "-c", text], check=True, capture_output=True, text=True).stdout.strip()

    done(SAVE)
    rows, peak = int(done(ROWS)) // 1024, int(done(LOAD)) // 1024
    print(f"{files} x {BIG_BYTES // 10**6} MB: peak {peak} MB ({rows} without files), budget {BUDGET // 10**6} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=4_000)
    parser.add_argument("--big", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, serving() as (url, asked):
        os.environ |= {"LAKEFEED_HOME": home, "LAKEFEED_CACHE_DIR": f"{home}/cache", "LAKEFEED_CACHE_BYTES": str(2**30)}
        small(url, asked, given.files, given.rounds)
        memory(url, given.big)


if __name__ == "__main__":
    main()
