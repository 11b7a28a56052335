"""Uncompressed copies of matrices: made once a machine, whole or not at all, removed when the cache is full."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lakefeed import Dataset, errors
from lakefeed.arrays import mapped_matrix, sidecar_files
from lakefeed.arrays.h5ad_file import H5adFile, open_h5ad
from lakefeed.arrays.mapped_cells import map_anndata
from lakefeed.config import Settings
from tests.sdk.arrays.h5ad_files import csr, matrix, write
from tests.sdk.s3 import new_bucket, s3_server
from tests.sdk.web import serving

VALUES = matrix(300, 40)
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "cells.h5ad", csr(VALUES), {"kind": ["a", "b", "c"] * 100}, compression="gzip")
    return tmp_path / "cells.h5ad"


def sidecars() -> list[Path]:
    folder = Settings.load().cache / "arrays"
    return sorted(each for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []


def values_of(cells: Any) -> Any:
    return np.array([row[0] for row in cells[:]])


def age(folder: Path) -> None:
    os.utime(folder / "manifest.json", (time.time() - 3_600,) * 2)


def test_a_sidecar_is_made_once_and_again_if_it_lacks_bytes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with map_anndata(path) as cells:
        np.testing.assert_array_equal(values_of(cells), VALUES)
        (folder,) = sidecars()
        assert sorted(file.name for file in folder.iterdir()) == ["data", "indices", "indptr", "lock", "manifest.json"]
        copy = path.with_name("copy.h5ad")
        copy.write_bytes(path.read_bytes())
        with monkeypatch.context() as patch:
            patch.setattr(mapped_matrix, "make_sidecar", None)
            np.testing.assert_array_equal(values_of(map_anndata([path, copy]))[300:], VALUES)
    (folder / "data").chmod(0o666)
    os.truncate(folder / "data", 100)
    np.testing.assert_array_equal(values_of(map_anndata(path)), VALUES)
    assert len(sidecars()) == 1
    write(path, csr(VALUES[:9]))  # another content has another sidecar
    np.testing.assert_array_equal(values_of(map_anndata(path)), VALUES[:9])
    assert len(sidecars()) == 2


def test_sidecars_that_nobody_uses_go_when_the_cache_is_full(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEFEED_CACHE_BYTES", "60000")
    used = map_anndata(path)
    (first,) = sidecars()
    age(first)
    write(tmp_path / "second.h5ad", matrix(100, 40, seed=1))
    pickled = pickle.dumps(map_anndata(tmp_path / "second.h5ad"))
    (second,) = [each for each in sidecars() if each != first]
    age(second)
    write(tmp_path / "third.h5ad", matrix(100, 40, seed=2))
    map_anndata(tmp_path / "third.h5ad")
    assert first in sidecars()
    assert second not in sidecars()
    used.close()
    np.testing.assert_array_equal(values_of(pickle.loads(pickled)), matrix(100, 40, seed=1))  # made again
    assert first not in sidecars()
    assert second in sidecars()


def test_a_cache_that_cannot_be_written_to_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = path.with_name("cache-file")
    cache.touch()
    monkeypatch.setenv("LAKEFEED_CACHE_DIR", str(cache))
    with pytest.raises(errors.StorageError, match=r"cells\.h5ad uncompressed \(stream=True needs no such copy\)"):
        map_anndata(path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("LAKEFEED_CACHE_DIR", str(path.with_name("other")))
    monkeypatch.setattr(sidecar_files.os, "pwrite", full)
    with pytest.raises(errors.StorageFullError, match="stream=True"):
        map_anndata(path)
    assert sidecars() == []


def test_damage_is_named_and_no_sidecar_is_left(path: Path, tmp_path: Path) -> None:
    content = bytearray(path.read_bytes())
    layout = H5adFile(open_h5ad(path).source).matrix().data._layout  # type: ignore[union-attr]
    offsets = layout.locations.find(np.array([0]), open_h5ad(path).source).offsets
    start = int(offsets[0])
    content[start + 40 : start + 80] = bytes(40)
    damaged = tmp_path / "damaged.h5ad"
    damaged.write_bytes(content)
    for stream in (False, True):
        with pytest.raises(errors.FormatError, match=r"damaged\.h5ad cannot be read; it is damaged"):
            map_anndata(damaged, stream=stream)[:]
    assert sidecars() == []
    cells = map_anndata(path, stream=True)
    write(path, csr(VALUES[:9]))
    with pytest.raises(errors.ChangedFileError, match=r"cells\.h5ad"):
        cells[0]


@pytest.mark.live
@pytest.mark.parametrize(("method", "stream", "workers"), [("fork", False, 2), ("fork", True, 2), ("spawn", True, 1)])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_workers_of_a_data_loader_read_every_row_once(path: Path, method: str, stream: bool, workers: int) -> None:
    cells = map_anndata(path, ["kind"], stream=stream)
    assert cells[0][1] == 0  # what was read before is of no harm to a fork
    loader = DataLoader(
        cells,
        batch_size=32,
        shuffle=True,
        num_workers=workers,
        multiprocessing_context=multiprocessing.get_context(method),
    )
    batches = list(loader)
    assert sum(len(values) for values, _ in batches) == 300
    order = torch.cat([values for values, _ in batches]).numpy()
    np.testing.assert_array_equal(np.sort(order, axis=0), np.sort(VALUES, axis=0))
    kinds = {tuple(row): number % 3 for number, row in enumerate(VALUES.tolist())}
    assert [kinds[tuple(row)] for row in order.tolist()] == torch.cat([labels for _, labels in batches]).tolist()
    if method == "spawn":
        return
    sparse = map_anndata(path, sparse=True, stream=stream)
    (values,) = next(iter(DataLoader(sparse, batch_size=300, num_workers=1, collate_fn=sparse.collate,
                                     multiprocessing_context=multiprocessing.get_context(method))))  # fmt: skip
    assert values.layout == torch.sparse_csr
    np.testing.assert_array_equal(values.to_dense().numpy(), VALUES)


def started(work: Callable[..., None], *arguments: Any) -> Any:
    process = FORK.Process(target=work, args=arguments)
    process.start()
    return process


def read_at_once(path: Path, ready: Any) -> None:
    ready.wait()
    np.testing.assert_array_equal(values_of(map_anndata(path)), VALUES)


def make_until_killed(path: Path, step: int) -> None:
    left = [step]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return function(*arguments)

        return call

    sidecar_files._NewArray.__exit__ = counted(sidecar_files._NewArray.__exit__)  # type: ignore[method-assign]
    sidecar_files.sync_file = counted(sidecar_files.sync_file)  # type: ignore[attr-defined]
    Path.rename = counted(Path.rename)  # type: ignore[method-assign]
    map_anndata(path)


@pytest.mark.live
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_processes_that_make_a_sidecar_at_once_make_one(path: Path) -> None:
    ready = FORK.Barrier(4)
    readers = [started(read_at_once, path, ready) for _ in range(4)]
    for reader in readers:
        reader.join()
    assert [reader.exitcode for reader in readers] == [0] * 4
    assert len(sidecars()) == 1


@pytest.mark.live
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_that_is_killed_while_it_makes_a_sidecar_leaves_none(path: Path) -> None:
    """Steps: before each of the maps is on disk, before the lock file, before the manifest, before the rename."""
    for step in range(6):
        victim = started(make_until_killed, path, step)
        victim.join()
        assert victim.exitcode == -signal.SIGKILL
        assert [folder.name[:4] for folder in sidecars()] == ["new-"]
    np.testing.assert_array_equal(values_of(map_anndata(path)), VALUES)
    (folder,) = sidecars()  # what the others have left is gone
    assert not folder.name.startswith("new-")


@pytest.mark.live
def test_files_of_a_dataset_and_of_the_web(path: Path, tmp_path: Path) -> None:
    Dataset.from_dict({"file": [str(path)]}).save("files", column_types={"file": "file"})
    handle = next(iter(Dataset("files")))["file"]
    path.rename(tmp_path / "gone.h5ad")
    for stream in (False, True):
        np.testing.assert_array_equal(values_of(map_anndata(handle, stream=stream)), VALUES)
    with serving() as site:
        url = site.put("cells.h5ad", (tmp_path / "gone.h5ad").read_bytes())
        cells = map_anndata([url], "kind", stream=True)
        np.testing.assert_array_equal(values_of(cells), VALUES)
        assert site.sent < 2 * len(site.files["/cells.h5ad"])
        np.testing.assert_array_equal(values_of(map_anndata(url)), VALUES)
        values = torch.cat([values for values, _ in DataLoader(cells, batch_size=50, num_workers=2)])
        np.testing.assert_array_equal(values.numpy(), VALUES)
        site.put("cells.h5ad", b"other" * 9_000)
        with pytest.raises(errors.ChangedFileError):
            cells.get_label_weights("other")


@pytest.mark.live
def test_files_in_an_object_store(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server() as options:
        monkeypatch.setenv("LAKEFEED__FILES__OPTIONS", json.dumps({"s3": options}))
        url = f"{new_bucket(options, 'cells')}/cells.h5ad"
        store = fsspec.filesystem("s3", **options)
        store.pipe_file(url, path.read_bytes())
        cells = map_anndata([url], "kind", stream=True)
        np.testing.assert_array_equal(values_of(cells), VALUES)
        np.testing.assert_array_equal(values_of(map_anndata(url)), VALUES)
        values = torch.cat([values for values, _ in DataLoader(cells, batch_size=100, num_workers=1)])
        np.testing.assert_array_equal(values.numpy(), VALUES)
        store.pipe_file(url, b"other" * 9_000)
        cells = pickle.loads(pickle.dumps(cells))
        with pytest.raises(errors.ChangedFileError):
            cells[299]


@pytest.mark.live
@pytest.mark.parametrize("stream", [False, True])
def test_an_interpreter_ends_well_while_rows_are_open(path: Path, stream: bool) -> None:
    code = f"""if True:
        import lakefeed, sys
        cells = lakefeed.map_anndata(sys.argv[1], "kind", stream={stream})
        print(len(cells[:3]))
        sys.exit(0)
    """
    done = subprocess.run([sys.executable, "-W", "error", "-c", code, path], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")
