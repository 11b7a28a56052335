"""File trees: many small files, unchanged syncs, copies, one change among many, and small changes of a large file.

    python sdk/benchmarks/trees.py [files] [--rows ROWS] [--large MIB]
    python sdk/benchmarks/trees.py [files] --peers dvc restic [--large MIB] [--rounds ROUNDS]

Seconds, CPU seconds and, for a large file, the bytes that are stored. Beside them, in the same run: hashing and writing
the same bytes. ``--rows`` is the size of a tree without contents, of which one file changes. A size of 0 leaves a part
out.

``--peers`` compares file trees with DVC and restic instead, which are found on PATH or given as ``dvc=PROGRAM``: 10,000
files and one of 256 MiB by default.
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
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from _tree_peers import compare, find_peers

FILES, FILE_BYTES = 10_000, 20_000
ROWS = 1_000_000
LARGE_MIB, PEERS_LARGE_MIB = 1024, 256
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


def stored_bytes() -> int:
    return sum(path.stat().st_size for path in Path(os.environ["LAKEFEED_HOME"], "blobs").rglob("*") if path.is_file())


def measure_growth(name: str, act: Callable[[], object]) -> None:
    before = stored_bytes()
    measure(name, act)
    print(f"{'':44} {(stored_bytes() - before) / 1024:10.0f} KiB stored", flush=True)


def bench_large_file(size: int) -> None:
    from lakefeed.storage.blobs.chunking import cut
    from lakefeed.trees import FileTree

    folder, plain = Path("large"), Path("plain.bin")
    folder.mkdir()
    path = folder / "checkpoint.bin"
    with path.open("wb") as stream:
        for number in range(size):
            stream.write(np.random.default_rng(number).bytes(1 << 20))

    def hash_file() -> None:
        with path.open("rb") as stream:
            hashlib.file_digest(stream, "sha256")

    def cut_file() -> None:
        with path.open("rb") as stream:
            for _ in cut(stream):
                pass

    def save() -> None:
        parents = [FileTree.get(dataset_project="files", dataset_name="large")] if trees else []
        tree = FileTree.create("large", "files", parents)
        tree.sync_folder(folder)
        tree.upload(show_progress=False)
        tree.finalize()
        trees.append(tree)

    def overwrite() -> None:
        with path.open("r+b") as stream:
            stream.seek(size << 19)
            stream.write(b"1234567")

    def insert() -> None:
        copy = folder / "copy"
        with path.open("rb") as source, copy.open("wb") as target:
            target.write(b"at the start")
            shutil.copyfileobj(source, target, 1 << 20)
        copy.rename(path)

    def append() -> None:
        with path.open("ab") as stream:
            stream.write(np.random.default_rng().bytes(1 << 20))

    trees: list[FileTree] = []
    measure(f"sha256 of a file of {size} MiB", hash_file)
    measure("cutting it", cut_file)
    measure("copying it", lambda: shutil.copyfile(path, plain))
    plain.unlink()
    measure_growth("sync, upload and finalize, the first", save)
    for name, change in (("7 bytes overwritten", overwrite), ("12 bytes inserted at the start", insert)):
        change()
        measure_growth(name, save)
    append()
    measure_growth("1 MiB appended", save)
    measure("get_local_copy, the first", trees[-1].get_local_copy)
    handle = next(iter(trees[-1].dataset.rows()))["file"]
    random = np.random.default_rng(1)
    with handle.store.open(trees[0].file_entries_dict["checkpoint.bin"].hash) as stream:
        measure("1,000 verified reads of 4 KiB", lambda: [read_at(stream, random, size) for _ in range(1000)])


def read_at(stream: BinaryIO, random: np.random.Generator, size: int) -> bytes:
    stream.seek(int(random.integers(0, size << 20)))
    return stream.read(4096)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="?", type=int, default=FILES)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--large", type=int)
    parser.add_argument("--peers", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    try:
        programs = find_peers(arguments.peers)
    except ValueError as error:
        parser.error(str(error))
    if arguments.large is None:
        arguments.large = PEERS_LARGE_MIB if programs else LARGE_MIB
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LAKEFEED_HOME"] = f"{folder}/home"
        os.chdir(folder)
        if programs:
            compare(programs, arguments.files, arguments.large, arguments.rounds)
            return
        if arguments.files:
            bench_small_files(arguments.files)
        if arguments.rows:
            bench_many_rows(arguments.rows)
        if arguments.large:
            bench_large_file(arguments.large)


if __name__ == "__main__":
    main()
