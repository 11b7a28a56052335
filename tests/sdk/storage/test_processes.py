"""Several real processes on one store, and processes that die in the middle of a put."""

from __future__ import annotations

import hashlib
import random
import time
from pathlib import Path

from lakefeed.storage import BlobStore
from lakefeed.storage.disk.hashing import CHUNK_BYTES, sha256_file
from tests.sdk.processes import Program, context, run

# Puts the blobs of a seeded sequence, large ones among them, for as long as it lives.
WRITER = """
import random, sys
from pathlib import Path
from lakefeed.storage import BlobStore
store, source = BlobStore(sys.argv[1], Path(sys.argv[2])), random.Random(int(sys.argv[3]))
print("ready", flush=True)
while True:
    data = source.randbytes(source.choice([10, 1000, 3_000_000, 9_000_000]))
    digest = store.put_bytes(data).sha256
    store.local_path(digest, ".bin")
    print(digest, flush=True)
"""

FORKER = """
import os, sys, warnings
warnings.simplefilter("ignore")  # of threads and forks
from pathlib import Path
from lakefeed.storage import BlobStore
store = BlobStore(sys.argv[1], Path(sys.argv[2]))
digest = store.put_bytes(b"abc").sha256
child = os.fork()
if child == 0:
    print(store.read(digest), end=" ", flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), end="")
"""


def broken(root: Path) -> list[Path]:
    """Files under the names of blobs that do not hold what their name says."""
    found = [path for path in (root / "sha256").rglob("*") if path.is_file()]
    return [path for path in found if sha256_file(path)[0] != path.parent.name + path.name.removesuffix(".bin")]


def put_shared(url: str, cache: Path, seed: int) -> list[str]:
    store = BlobStore(url, cache)
    order = list(range(12))
    random.Random(seed).shuffle(order)
    return [store.put_bytes(content(number)).sha256 for number in order]


def content(number: int) -> bytes:
    return bytes([number]) * (CHUNK_BYTES * (number % 3) + number)


def test_processes_putting_the_same_blobs(tmp_path: Path) -> None:
    url = str(tmp_path / "blobs")
    with context().Pool(4) as pool:
        tasks = [pool.apply_async(put_shared, (url, tmp_path / "cache", seed)) for seed in range(4)]
        while not all(task.ready() for task in tasks):
            assert not broken(tmp_path / "blobs")
        results = [sorted(task.get()) for task in tasks]
    expected = sorted(hashlib.sha256(content(number)).hexdigest() for number in range(12))
    assert results == [expected] * 4
    assert len([path for path in (tmp_path / "blobs" / "sha256").rglob("*") if path.is_file()]) == 12
    assert not broken(tmp_path / "blobs")


def test_a_killed_put_leaves_no_partial_blob(tmp_path: Path) -> None:
    places = [str(tmp_path / "blobs"), str(tmp_path / "cache")]
    moments = random.Random(7)
    acknowledged: list[str] = []
    for seed in range(5):
        writer = Program(WRITER, *places, seed)
        assert writer.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0.0, 0.15))
        writer.kill()
        acknowledged += writer.finish().splitlines()
        assert not broken(tmp_path / "blobs")
        assert not broken(tmp_path / "cache")
    store = BlobStore(places[0], Path(places[1]))
    whole = [digest for digest in acknowledged if len(digest) == 64]  # the last line may be cut
    assert whole
    assert all(len(store.read(digest)) for digest in whole)


def test_a_store_used_before_a_fork_works_after_it(tmp_path: Path) -> None:
    assert run(FORKER, f"memory://{tmp_path.name}", tmp_path / "cache") == "b'abc' 0"
