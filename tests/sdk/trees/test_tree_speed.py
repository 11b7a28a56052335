"""What 10,000 small files cost, in CPU seconds, and as a ratio to hashing and writing them."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lakefeed.trees import FileTree
from tests.sdk.trees.test_file_trees import fill, finished

pytestmark = [pytest.mark.live, pytest.mark.soak, pytest.mark.timeout(0)]
FILES, SIZE, ROUNDS = 10_000, 20_000, 3


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def test_adding_and_syncing_many_small_files(home: Path, tmp_path: Path) -> None:
    finished(fill(tmp_path / "f", {"a": "A"}), "warm")
    folder = tmp_path / "many"
    added, unchanged, written = [], [], []
    for number in range(ROUNDS):
        for index in range(FILES):
            path = folder / f"{index // 100}" / f"{index}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(SIZE))
        time.sleep(2)  # so that their times tell later changes
        tree, child = FileTree.create(f"many{number}", "animals"), None

        def add(tree: FileTree = tree) -> None:
            tree.add_files(folder)
            tree.upload(show_progress=False)
            tree.finalize()

        def write() -> None:
            with (tmp_path / "one").open("wb") as target:
                for path in folder.rglob("*.bin"):
                    data = path.read_bytes()
                    hashlib.sha256(data)
                    target.write(data)

        written.append(cpu_seconds(write))
        added.append(cpu_seconds(add))
        child = FileTree.create(f"many{number}", parent_datasets=tree)
        unchanged.append(cpu_seconds(lambda child=child: child.sync_folder(folder)))  # type: ignore[misc]
        assert not child.is_dirty()
    assert min(added) < 5
    assert min(unchanged) < 0.5
    assert min(added) < 2.5 * min(written)
