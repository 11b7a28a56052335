"""Five gigabytes under one: joins, aggregations, sorts and global shuffles end, in bounded memory, leaving no file.

What is saved takes less: a row group, however long the input.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PROGRAM = """
    import resource, sys, threading, time
    import numpy as np, pyarrow as pa
    from lakefeed import Dataset

    what, rows = sys.argv[1], int(sys.argv[2])
    text = "x" * 450

    def blobs():
        noise = np.random.default_rng(0).bytes(1 << 17)
        for start in range(rows):
            yield pa.record_batch({"id": [start], "blob": [noise[start % 65_536:][:65_536]]})

    def side(name, step):
        def batches():
            for start in range(0, rows, 20_000):
                numbers = np.arange(start, start + 20_000)
                keys = numbers * step % rows
                texts = [f"{key:09d}{text}" for key in keys.tolist()]
                yield pa.record_batch({"key": keys, name: numbers, "text": texts})
        schema = pa.schema({"key": pa.int64(), name: pa.int64(), "text": pa.string()})
        return Dataset.from_batches(batches, schema=schema)

    left, right = side("a", 7), side("b", 3)
    made = {
        "join": lambda: left.join(right, ["key"]),
        "aggregation": lambda: left.sql("SELECT text, max(a) AS a FROM data GROUP BY text"),
        "sort": lambda: left.sort("key"),
        "shuffle": lambda: left.shuffle(seed=1),
    }.get(what, list)()
    peak, done = 0, False

    def watch():
        global peak
        while not done:
            for line in open("/proc/self/status"):
                if line.startswith("RssAnon"):
                    peak = max(peak, int(line.split()[1]) >> 10)
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    count = total = 0
    began = time.perf_counter()
    if what == "blobs":
        schema = pa.schema({"id": pa.int64(), "blob": pa.binary()})
        count = len(Dataset.from_batches(blobs, schema=schema).save(what, column_types=None))
    elif what == "texts":
        count = len(left.save(what))
    else:
        for batch in made.batches(format="arrow"):
            count += batch.num_rows
            total += int(batch["a"].to_numpy().sum())
            if what == "join":
                assert batch["text"][0].as_py() == batch["text_right"][0].as_py()
            if what == "sort":
                assert batch["key"][0].as_py() == count - batch.num_rows
    done = True
    watcher.join()
    saved = what in ("blobs", "texts")
    assert (count, total) == (rows, 0 if saved else rows * (rows - 1) // 2), (count, total)
    print(peak, round(time.perf_counter() - began, 1))
"""


def peak_mib(what: str, rows: int, memory_mib: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The most anonymous memory that the work took; what is mapped from a file can be dropped at any time."""
    monkeypatch.setenv("LAKEFEED__SQL__MEMORY_BYTES", str(memory_mib << 20))
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), what, str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    spilled = tmp_path / "cache" / "spill"
    assert not spilled.exists() or list(spilled.iterdir()) == []
    print(what, done.stdout)  # noqa: T201  # with -s: the figures
    return int(done.stdout.split()[0])


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.parametrize("what", ["join", "aggregation", "sort", "shuffle"])
def test_three_times_the_budget(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 MB a side under 100 MB (and what Python, Arrow and DuckDB take anyway)."""
    assert peak_mib(what, 640_000, 100, tmp_path, monkeypatch) < 300


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("what", ["join", "aggregation", "sort", "shuffle"])
def test_five_gigabytes_under_one(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert peak_mib(what, 10_000_000, 1024, tmp_path, monkeypatch) < 1024


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("what", "rows"), [("blobs", 80_000), ("texts", 10_000_000)])
def test_five_gigabytes_from_a_generator_under_500_mb(
    what: str, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert peak_mib(what, rows, 1024, tmp_path, monkeypatch) < 500
