"""File trees: many small files, unchanged syncs, copies, and one change among many: seconds and CPU seconds.

    python sdk/benchmarks/trees.py [files] [--rows ROWS]

Beside them, in the same run: hashing and writing the same bytes. ``--rows`` is the size of a tree without contents, of
which one file changes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

FILES, FILE_BYTES = 10_000, 20_000
ROWS = 1_000_000
RACY_SECONDS = 2.1


def measure(name: str, act: Callable[[], object]) -> None:
    began, cpu = time.perf_counter(), time.process_time()
    act()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{name:44} {seconds:8.2f} s {cpu:8.2f} CPU s {peak:6} MiB", flush=True)


def make_files(folder: Path, files: int) -> None:
    random = np.random.default_rng(1)
    for number in range(files):
        path = folder / f"{number % 100:02}" / f"{number:06}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.bytes(FILE_BYTES))


def hash_and_write(folder: Path, target: Path) -> None:
    with target.open("wb") as stream:
        for path in folder.rglob("*.bin"):
            data = path.read_bytes()
            hashlib.sha256(data).digest()
            stream.write(data)


def bench_small_files(files: int) -> None:
    from lakefeed.trees import FileTree

    folder = Path("files")
    make_files(folder, files)
    time.sleep(RACY_SECONDS)  # younger files are hashed again
    FileTree.create("warm", "up")
    measure("sha256 and one sequential write", lambda: hash_and_write(folder, Path("all")))
    tree = FileTree.create("small", "files")
    measure("add_files", lambda: tree.add_files(folder))
    measure("upload", lambda: tree.upload(show_progress=False))
    measure("finalize", tree.finalize)
    child = FileTree.create("small", parent_datasets=[tree])
    measure("sync_folder, unchanged", lambda: child.sync_folder(folder))
    (folder / "00" / "000000.bin").write_bytes(b"changed")
    measure("sync_folder, one file changed", lambda: child.sync_folder(folder))
    measure("upload of it", lambda: child.upload(show_progress=False))
    measure("finalize", child.finalize)
    measure("writing the files", lambda: shutil.copytree(folder, "plain"))
    measure("get_local_copy, the first", tree.get_local_copy)
    measure("get_local_copy, there already", FileTree.get(tree.id).get_local_copy)
    measure("get_local_copy of the next version", child.get_local_copy)
    measure("get_mutable_local_copy", lambda: child.get_mutable_local_copy("mutable"))


def bench_many_rows(rows: int) -> None:
    from lakefeed.catalog.lake import Lake
    from lakefeed.media.file import FILE
    from lakefeed.trees import FileTree
    from lakefeed.trees.tree_commit import commit_tree
    from lakefeed.trees.tree_finalization import new_facts
    from lakefeed.trees.tree_identity import TreeId
    from lakefeed.trees.tree_rows import TREE_SCHEMA, TreeRows

    paths = [f"train/{number % 1000:04}/{number:08}.jpg" for number in range(rows)]
    digests = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(rows)]
    facts = {"sha256": pa.array(digests), "size": pa.array(np.full(rows, 20_000))}
    struct = pa.StructArray.from_arrays(
        [facts.get(field.name, pa.nulls(rows, field.type)) for field in FILE.struct], fields=list(FILE.struct)
    )
    nothing = pa.nulls(rows, pa.string())
    table = pa.table([pa.array(paths), struct, pa.array([False] * rows), nothing, nothing], schema=TREE_SCHEMA)
    made = new_facts("many", "files", (), None, (), None, "follow")
    commit_tree(Lake.current(), TreeId.new(made.dataset), made, TreeRows.of(table), lambda: None)
    Path("one").mkdir()
    Path("one/new.jpg").write_bytes(b"1")
    tree = FileTree.create("many", parent_datasets=[FileTree.get(dataset_project="files", dataset_name="many")])
    measure(f"add_files of one file to {rows:,}", lambda: tree.add_files("one"))
    measure("upload", lambda: tree.upload(show_progress=False))
    measure("finalize", tree.finalize)
    measure("list_modified_files", FileTree.get(tree.id).list_modified_files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="?", type=int, default=FILES)
    parser.add_argument("--rows", type=int, default=ROWS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LAKEFEED_HOME"] = f"{folder}/home"
        os.chdir(folder)
        bench_small_files(arguments.files)
        bench_many_rows(arguments.rows)


if __name__ == "__main__":
    main()
