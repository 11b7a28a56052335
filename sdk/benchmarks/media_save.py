"""Saving many small local files, against hashing them and writing the same bytes to one file.

    python sdk/benchmarks/media_save.py [files] [bytes]

The baseline reads every file, hashes it with SHA-256 and writes it to one file, which is synced at the end as a save
is. All take turns; the best time of each counts, as what the work takes where nobody disturbs it.
"""

from __future__ import annotations

import hashlib
import io
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image

from lakefeed import Dataset
from lakefeed.catalog.lake import Lake

FILES = 10_000
BYTES = 20_000
ROUNDS = 4
KINDS = {"no statistics": False, "image statistics": True}
GOALS = {"no statistics": 1.5, "image statistics": 3.0}


def make(folder: Path, files: int, size: int) -> list[str]:
    """JPEGs of about that size, all different."""
    target = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(target, "JPEG", quality=90)
    picture = target.getvalue()
    filling = os.urandom(max(size - len(picture) - 8, 0))
    paths = []
    for number in range(files):
        path = folder / f"{number:06d}.jpg"
        path.write_bytes(picture[:-2] + b"\xff\xfe\xff\xff"[:0] + picture[-2:] + number.to_bytes(8, "big") + filling)
        paths.append(str(path))
    return paths


def baseline(paths: list[str], target: Path) -> None:
    with target.open("wb") as stream:
        for path in paths:
            with open(path, "rb") as source:  # noqa: PTH123 - the plainest way
                data = source.read()
            hashlib.sha256(data).hexdigest()
            stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds: by the clock, and of processor time (children included)."""
    began, used = time.perf_counter(), cpu()
    work()
    return time.perf_counter() - began, cpu() - used


def cpu() -> float:
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


def report(what: str, taken: tuple[float, float], against: tuple[float, float] | None = None, goal: str = "") -> None:
    ratio = f"{taken[0] / against[0]:6.2f}x  cpu {taken[1] / against[1]:5.2f}x" if against else ""
    print(f"  {what:<44}{taken[0]:7.2f} s  cpu {taken[1]:6.2f} s  {ratio}  {goal}", flush=True)


def save(paths: list[str], name: str, *, stats: bool) -> None:
    Dataset.from_dict({"image": paths}).save(name, column_types={"image": "image"}, stats=stats)


def main(files: int, size: int) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "files")
        folder.mkdir()
        paths = make(folder, files, size)
        time.sleep(2.1)  # files written to this shortly before are not trusted to stay as they are
        print(f"{files:,} files of {size:,} bytes; best of {ROUNDS}")
        best: dict[str, tuple[float, float]] = {}
        for number in range(ROUNDS):
            note(best, "baseline", lambda number=number: baseline(paths, Path(root, f"{number}")))  # type: ignore[misc]
            for what, stats in KINDS.items():
                os.environ["LAKEFEED_HOME"] = f"{root}/{what}/{number}"
                save(paths[:1], "lake", stats=True)  # which is there when the time begins
                for name in ("first", "again"):
                    note(best, f"{name} {what}", lambda name=name, stats=stats: save(paths, name, stats=stats))  # type: ignore[misc]
                Lake.current().close()
        report("sha256 + one sequential write", best["baseline"])
        for what in KINDS:
            report(f"save, {what}", best[f"first {what}"], best["baseline"], f"(goal {GOALS[what]}x)")
            report(f"the same files again, {what}", best[f"again {what}"], goal="  (goal 1 s)")


def note(best: dict[str, tuple[float, float]], what: str, work: Callable[[], object]) -> None:
    os.sync()
    taken = measured(work)
    best[what] = min(best.get(what, taken), taken)


if __name__ == "__main__":
    main(*(int(given) for given in sys.argv[1:3]) if len(sys.argv) > 2 else (FILES, BYTES))
