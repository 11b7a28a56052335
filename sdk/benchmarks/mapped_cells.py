"""Rows of .h5ad files in random order: `map_anndata` beside row-by-row reads through h5py, and scDataset if installed.

    python sdk/benchmarks/mapped_cells.py [cells]

Rows per CPU second, the best of interleaved turns, in batches of 128 that become tensors. scDataset (pip install
scDataset) reads blocks of 16 neighbouring cells, shuffled in a buffer of 16 batches.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import scipy.sparse
import torch
from _measuring import line
from torch.utils.data import DataLoader

GENES, EXPRESSED, DENSE_GENES, BATCH = 20_000, 1_000, 2_000, 128
TURNS, BATCHES, SLOW_BATCHES = 3, 60, 2


def write(path: Path, values: Any) -> Path:
    cells, genes = values.shape
    kinds = pd.Categorical(np.random.default_rng(0).choice(list("abcdef"), cells))
    obs = pd.DataFrame({"kind": kinds}, index=[f"c{number}" for number in range(cells)])
    data = anndata.AnnData(values, obs=obs, var=pd.DataFrame(index=[f"g{number}" for number in range(genes)]))
    data.write_h5ad(path, compression="gzip")
    return path


def counts(cells: int, genes: int, expressed: int) -> Any:
    draw = np.random.default_rng(0)
    columns = np.cumsum(draw.integers(1, 2 * genes // expressed - 1, (cells, expressed)), axis=1)
    columns = np.minimum(columns, genes - expressed + np.arange(expressed)).astype("i4")
    values = draw.poisson(2, cells * expressed).astype("f4") + 1
    return scipy.sparse.csr_matrix((values, columns.reshape(-1), np.arange(cells + 1) * expressed), (cells, genes))


def rates(contestants: dict[str, Callable[[], int]]) -> dict[str, float]:
    """Returns rows per CPU second of each."""
    best = dict.fromkeys(contestants, 0.0)
    for _ in range(TURNS):
        for name, work in contestants.items():
            before = time.process_time()
            rows = work()
            best[name] = max(best[name], rows / (time.process_time() - before))
    for name, rate in best.items():
        print(f"{name:48}{rate:12,.0f} rows/s")
    return best


def batches(cells: Any, number: int = BATCHES) -> int:
    draw = np.random.default_rng(1)
    for _ in range(number):
        cells.collate(cells.__getitems__(draw.integers(0, len(cells), BATCH)))
    return number * BATCH


def loaded(cells: Any) -> int:
    return sum(len(labels) for _, labels in DataLoader(cells, batch_size=BATCH, shuffle=True))


def row_by_row(path: Path) -> Callable[[], int]:
    file = h5py.File(path)
    rows, draw = len(file["obs/_index/values"]), np.random.default_rng(1)

    def read(row: int) -> Any:
        if isinstance(file["X"], h5py.Dataset):
            return file["X"][row]
        start, stop = file["X/indptr"][row : row + 2]
        values = np.zeros(GENES, "f4")
        values[file["X/indices"][start:stop]] = file["X/data"][start:stop]
        return values

    def work() -> int:
        for _ in range(SLOW_BATCHES):
            torch.from_numpy(np.stack([read(row) for row in draw.integers(0, rows, BATCH)]))
        return SLOW_BATCHES * BATCH

    return work


class CsrFile:
    """Rows of a CSR matrix through h5py; neighbouring rows are read together. AnnData's own reader takes no lists."""

    def __init__(self, path: Path) -> None:
        self._matrix = h5py.File(path)["X"]
        self._bounds = self._matrix["indptr"][:]

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __getitem__(self, rows: Any) -> Any:
        order = np.argsort(rows)
        runs = np.split(rows[order], np.flatnonzero(np.diff(rows[order]) != 1) + 1)
        return scipy.sparse.vstack([self._run(run[0], run[-1] + 1) for run in runs], "csr")[np.argsort(order)]

    def _run(self, start: int, stop: int) -> Any:
        low, high = self._bounds[start], self._bounds[stop]
        values = self._matrix["data"][low:high], self._matrix["indices"][low:high]
        return scipy.sparse.csr_matrix((*values, self._bounds[start : stop + 1] - low), (stop - start, GENES))


def blocks(path: Path) -> Callable[[], int]:
    from scdataset import BlockShuffling, scDataset

    dataset = scDataset(
        CsrFile(path), BlockShuffling(16), BATCH, 16, batch_transform=lambda rows: torch.from_numpy(rows.toarray())
    )

    def work() -> int:
        rows = 0
        for batch in dataset:
            rows += len(batch)
            if rows >= 32 * BATCH:
                break
        return rows

    return work


def sidecar(path: Path) -> None:
    """Prints the time of a copy in the cache beside the time of inflating and writing the chunks alone."""
    from isal import isal_zlib

    from lakefeed.arrays.h5ad_file import open_h5ad
    from lakefeed.arrays.sidecar_files import make_sidecar, sidecar_folder

    file, matrix = h5py.File(path), open_h5ad(path).matrix()

    def alone() -> None:
        for name in ("data", "indices"):
            chunks: list[Any] = []
            file["X"][name].id.chunk_iter(chunks.append)
            with path.open("rb") as source, path.with_name(name).open("wb") as sink:
                for chunk in chunks:
                    source.seek(chunk.byte_offset)
                    sink.write(isal_zlib.decompress(source.read(chunk.size)))
            path.with_name(name).unlink()

    taken = []
    for turn in range(TURNS):
        folder = sidecar_folder(f"{turn:064x}", None)
        folder.parent.mkdir(parents=True, exist_ok=True)
        before = time.process_time()
        alone()
        between = time.process_time()
        make_sidecar(folder, matrix, path.name)
        taken.append((time.process_time() - between) / (between - before))
    line("copy / inflate and write", min(taken), 1.5, "times")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cells", type=int, nargs="?", default=20_000)
    cells = parser.parse_args().cells
    pd.set_option("mode.string_storage", "python")
    anndata.settings.allow_write_nullable_strings = True
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LAKEFEED_HOME"] = folder
        from lakefeed import map_anndata

        sparse = write(Path(folder, "sparse.h5ad"), counts(cells, GENES, EXPRESSED))
        dense = write(Path(folder, "dense.h5ad"), counts(cells // 2, DENSE_GENES, 200).toarray())
        sidecar(sparse)
        mapped, as_csr, narrow = map_anndata(sparse), map_anndata(sparse, sparse=True), map_anndata(dense, "kind")
        contestants = {
            "row by row, CSR file": row_by_row(sparse),
            "row by row, dense file": row_by_row(dense),
            "map_anndata, CSR file to dense": lambda: batches(mapped),
            "map_anndata, CSR file to sparse": lambda: batches(as_csr),
            "map_anndata, dense file": lambda: batches(narrow),
            "map_anndata, dense file, DataLoader": lambda: loaded(narrow),
        }
        if find_spec("scdataset"):
            contestants["scDataset, CSR file to dense"] = blocks(sparse)
        rate = rates(contestants)
        base = rate["row by row, CSR file"]
        line("dense / row by row", rate["map_anndata, CSR file to dense"] / base, 30, "times")
        line("sparse / row by row", rate["map_anndata, CSR file to sparse"] / base, 200, "times")
        line("dense file / row by row", rate["map_anndata, dense file"] / rate["row by row, dense file"], 30, "times")
        line("DataLoader, 2,000 genes", rate["map_anndata, dense file, DataLoader"], 40_000, "rows/s")
        if find_spec("scdataset"):
            peer = rate["scDataset, CSR file to dense"]
            line("dense / scDataset", rate["map_anndata, CSR file to dense"] / peer, 2, "times")


if __name__ == "__main__":
    main()
