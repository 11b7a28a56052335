"""Writers on a disk that fails: run as a program under the preloaded library of ``broken_disk.c``.

For each scenario the first, second, third, … call to the disk fails, until all of them pass. After each failure the
error must be typed, nothing new may lie on the disk, nothing may be open, and the rows must be what they were.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lakefeed import Dataset

CREATE, WRITE, SYNC, CLOSE, RENAME, MKDIR, GROW = 1, 2, 4, 8, 16, 32, 64
ALL = 63
SPACE = CREATE | GROW | MKDIR
"""The calls that a full disk refuses."""
MOST = 2_000
ALLOWED = re.compile(
    # Databases, locks and counts of the cache, and the catalog with its journal; leases; complete blobs,
    # packs and scan plans.
    r"\.db(-wal|-shm|-journal)?$|\.lock$|/lock$|/(usage|turns)$|/leases/|/lakes/|/packs/[0-9a-f]{32}\.pack$|/blobs/sha256/|/cache/sha256/"
    r"|/cache/plans/[0-9a-f]{64}$"
)


@dataclass(frozen=True)
class Fault:
    """An error of the disk: from one call on all ``after`` that kind fail; ``kinds``: the calls it may begin with."""

    number: int
    kinds: int = ALL
    after: int = 0


FAULTS = {
    "full": Fault(errno.ENOSPC, SPACE, SPACE),
    "quota": Fault(errno.EDQUOT, SPACE, SPACE),
    "io": Fault(errno.EIO),
    "denied": Fault(errno.EACCES, CREATE | MKDIR | RENAME, CREATE | MKDIR | RENAME),
    "full-once": Fault(errno.ENOSPC, ALL),
}


class Disk:
    """Everything below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._library = ctypes.CDLL(None)

    def arm(self, at: int, fault: Fault) -> None:
        self._library.disk_arm(str(self.root).encode(), ctypes.c_long(at), fault.number, fault.kinds, fault.after)

    def disarm(self) -> int:
        """How many calls have failed."""
        return int(self._library.disk_disarm())

    def files(self) -> set[str]:
        """What must not have become more."""
        paths = (path for path in self.root.rglob("*") if path.is_file())
        return {str(path) for path in paths if not ALLOWED.search(str(path)) and not _is_complete(path)}

    def open_files(self) -> list[str]:
        """What is open on the disk, but for the databases of the cache."""
        found = []
        for name in Path("/proc/self/fd").iterdir():
            try:
                target = str(name.readlink())
            except OSError:
                continue
            if target.startswith(str(self.root)) and not ALLOWED.search(target):
                found.append(target)
        return sorted(found)


def _is_complete(path: Path) -> bool:
    """Whether a file belongs to a mirror that is complete, although the call after that has failed."""
    return (path.parent / "manifest.json").exists()


def sweep(disk: Disk, fault: Fault, act: Callable[[], None], check: Callable[[bool], None], step: int = 1) -> int:
    """Fails one call after the other; how many there were. ``check``: given whether the action passed."""
    from lakefeed.errors import StorageError

    for at in range(1, MOST, step):
        gc.collect()
        before, opened = disk.files(), disk.open_files()
        disk.arm(at, fault)
        error: BaseException | None = None
        try:
            act()
        except Exception as caught:  # noqa: BLE001 - whichever it is, it is looked at
            error = caught
        fired = disk.disarm()
        if os.environ.get("DISK_VERBOSE"):
            sys.stderr.write(f"{at}: {fired} {type(error).__name__}: {error}\n")
        where = f"call {at}: {type(error).__name__}: {error}"
        if error is not None:
            assert fired, where
            assert isinstance(error, StorageError), where
            assert error.errno in (fault.number, errno.EIO, errno.EACCES, None), where
            assert str(disk.root) in str(error), where
            error = None
            gc.collect()
            left = disk.files() - before
            assert not left, f"{where}: {sorted(left)}"
            check(False)
        else:
            check(True)
        assert disk.open_files() == opened, f"{where}: {disk.open_files()}"
        if not fired:
            return at
    raise AssertionError("it never passes")


# ------------------------------------------------------------------------------------------------- the scenarios


def _rows(count: int = 40) -> object:
    from lakefeed import Dataset

    return Dataset.from_dict({"x": list(range(count)), "b": [bytes([i]) * 100 for i in range(count)]})


def append(disk: Disk, fault: Fault, step: int) -> int:
    """Data files, manifests, metadata, the catalog's database."""
    from lakefeed import Dataset

    rows = _rows()
    rows.save("t")
    count = [40]

    def check(passed: bool) -> None:
        count[0] += 40 * passed
        assert Dataset("t").count() == count[0]

    total = sweep(disk, fault, lambda: rows.append_to("t"), check, step)
    assert sorted(Dataset("t").collect()["x"].to_pylist()) == sorted(list(range(40)) * (count[0] // 40))
    return total


def create(disk: Disk, fault: Fault, step: int) -> int:
    from lakefeed import Dataset, list_datasets

    rows = _rows()
    rows.save("other")
    names: list[str] = []

    def act() -> None:
        name = f"new{len(names)}"
        rows.save(name)

    def check(passed: bool) -> None:
        if passed:
            assert Dataset(f"new{len(names)}").count() == 40
            names.append("")
        assert len(list_datasets()) == len(names) + 1

    return sweep(disk, fault, act, check, step)


def edit(disk: Disk, fault: Fault, step: int) -> int:
    from lakefeed import Dataset

    rows = _rows()
    rows.save("e")
    gone: list[int] = []

    def check(passed: bool) -> None:
        if passed:
            gone.append(len(gone))
        assert Dataset("e").collect()["x"].to_pylist() == list(range(len(gone), 40))

    return sweep(disk, fault, lambda: Dataset("e").delete_rows(f"x = {len(gone)}"), check, step)


def settle(disk: Disk, fault: Fault, step: int) -> int:
    from lakefeed import Dataset

    _rows().save("s")
    tags = [0]

    def check(passed: bool) -> None:
        tags[0] += passed
        assert len(Dataset("s").tags()) == tags[0]

    return sweep(disk, fault, lambda: Dataset("s").tag(f"t{tags[0]}"), check, step)


def blobs(disk: Disk, fault: Fault, step: int) -> int:
    """Small contents in packs, a large one alone."""
    from lakefeed import Dataset

    number = [0]
    Dataset.from_dict({"f": [b"begin"]}).save("f", column_types={"f": "file"})
    count = [1]

    def act() -> None:
        number[0] += 1
        large = number[0].to_bytes(4, "big") * (300 << 10)
        data = [b"%d %d" % (number[0], i) for i in range(5)] + [large]
        Dataset.from_dict({"f": data}).append_to("f")

    def check(passed: bool) -> None:
        count[0] += 6 * passed
        rows = list(Dataset("f").load_files("bytes"))
        assert len(rows) == count[0]

    return sweep(disk, fault, act, check, step)


def cache(disk: Disk, fault: Fault, step: int) -> int:
    """Mirrors, and outputs at a path, mapped or not."""
    from lakefeed import Dataset

    rows = _rows()
    rows.save("k")
    total = 0
    for make in (lambda path: Dataset("k").mapped(path), lambda path: Dataset("k").cache(path)):
        paths = [disk.root / f"kept-{number}" for number in range(MOST)]
        left = iter(paths)

        def act(make: Callable[[Path], Dataset] = make, left: Iterator[Path] = left) -> None:
            make(next(left))

        total += sweep(disk, fault, act, _nothing, step)
        for path in paths[: MOST - len(list(left))]:
            assert make(path).count() == 40
            shutil.rmtree(path)

    def checked(passed: bool) -> None:
        assert Dataset("k").count() % 40 == 0
        if passed:
            rows.append_to("k")

    return total + sweep(disk, fault, lambda: Dataset("k").cache(), checked, step)


def _nothing(passed: bool) -> None:
    """Checks nothing."""


def spill(disk: Disk, fault: Fault, step: int) -> int:
    """Rows beyond memory: a global shuffle, and rows that are rearranged for a sort."""
    from lakefeed import Dataset

    os.environ["LAKEFEED__SQL__MEMORY_BYTES"] = str(64 << 20)
    rows = Dataset.from_dict({"x": list(range(4_000)), "b": [bytes([i % 256]) * 30_000 for i in range(4_000)]})
    rows.save("m")
    total = 0
    for make in (
        lambda: Dataset("m").shuffle(seed=1),
        lambda: Dataset("m").sort("x", descending=True),
    ):

        def act(make: Callable[[], Dataset] = make) -> None:
            with closing(iter(make().batches(500))) as batches:
                assert sum(len(batch["x"]) for batch in batches) == 4_000

        total += sweep(disk, fault, act, _nothing, step)
    return total


SCENARIOS = {one.__name__: one for one in (append, create, edit, settle, blobs, cache, spill)}


def main(names: list[str]) -> None:
    """``scenario:fault:step`` each."""
    for word in names:
        scenario, fault, step = word.split(":")
        root = Path(tempfile.mkdtemp(prefix="disk-"))
        os.environ["LAKEFEED_HOME"], os.environ["LAKEFEED_CACHE_DIR"] = str(root / "home"), str(root / "cache")
        os.environ["TMPDIR"] = str(root)
        total = SCENARIOS[scenario](Disk(root), FAULTS[fault], int(step))
        sys.stdout.write(f"{word}: {total} calls\n")


if __name__ == "__main__":
    main(sys.argv[1:])
