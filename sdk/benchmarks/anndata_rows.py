"""Cells of a .h5ad file as rows of a dataset, against rows read one by one and scDataset's blocks of 16.

    python sdk/benchmarks/anndata_rows.py [rows]

All take turns in one process, and the best turn of each counts. All give batches of 128 rows of X as sparse tensors or
matrices. scDataset takes part where it is installed; it shuffles blocks, and has no state to resume from. It needs an
environment of its own, as AnnData 0.12.6 reads rows of CSR files in backed mode with SciPy before 1.17 only.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import scipy.sparse
from _measuring import line, section

from lakefeed import Dataset

ROWS = 20_000
WIDTH = 20_000
ENTRIES = 1_000
BATCH = 128
WINDOW = 8_192
SINGLE_ROWS = 500
ROUNDS = 3
BLOCKS = "scDataset, blocks of 16"


def write(path: Path, rows: int, compression: str | None) -> None:
    random = np.random.default_rng(0)
    some = np.sort(random.random((100, WIDTH)).argsort(axis=1)[:, :ENTRIES], axis=1).astype(np.int32)
    indices = some[random.integers(0, len(some), rows)].reshape(-1)
    values = random.integers(1, 9, rows * ENTRIES).astype(np.float32)
    bounds = np.arange(0, rows * ENTRIES + 1, ENTRIES)
    obs = pd.DataFrame({"donor": pd.Categorical(np.arange(rows) % 7)}, index=[f"cell{n}" for n in range(rows)])
    var = pd.DataFrame(index=[f"gene{n}" for n in range(WIDTH)])
    matrix = scipy.sparse.csr_matrix((values, indices, bounds), shape=(rows, WIDTH))
    anndata.AnnData(matrix, obs=obs, var=var).write_h5ad(path, compression=compression)


def windowed(path: Path) -> Any:
    rows = Dataset.from_anndata(path, obs=[]).select(["X"])
    return rows.shuffle(seed=1, window=WINDOW, global_=False)


def loaded(path: Path, **options: Any) -> int:
    return sum(batch["X"].shape[0] for batch in windowed(path).to_torch(batch_size=BATCH, **options))


def one_by_one(path: Path) -> int:
    with h5py.File(path) as file:
        data, indices, bounds = (file[f"X/{name}"] for name in ("data", "indices", "indptr"))
        chosen = np.random.default_rng(1).integers(0, len(bounds) - 1, SINGLE_ROWS).tolist()
        for row in chosen:
            low, high = bounds[row], bounds[row + 1]
            dense = np.zeros(WIDTH, np.float32)
            dense[indices[low:high]] = data[low:high]
    return len(chosen)


def blocks_of_16(path: Path) -> int:
    import scdataset

    cells = anndata.read_h5ad(path, backed="r")
    try:
        batches = scdataset.scDataset(
            cells,
            scdataset.BlockShuffling(block_size=16),
            batch_size=BATCH,
            fetch_factor=WINDOW // BATCH,
            fetch_transform=lambda some: some.to_memory().X,
        )
        return sum(batch.shape[0] for batch in batches)
    finally:
        cells.file.close()


def contestants(path: Path) -> dict[str, Callable[[], int]]:
    runs: dict[str, Callable[[], int]] = {
        "row by row, h5py": lambda: one_by_one(path),
        "windowed shuffle, torch CSR": lambda: loaded(path),
        "windowed shuffle, dense": lambda: loaded(path, sparse="dense"),
        "in order, Arrow": lambda: sum(
            batch.num_rows for batch in Dataset.from_anndata(path).select(["X"]).batches(format="arrow")
        ),
    }
    try:
        import scdataset  # noqa: F401
    except ImportError:
        return runs
    return {**runs, BLOCKS: lambda: blocks_of_16(path)}


def resume_seconds(path: Path) -> tuple[float, float]:
    """Returns the seconds to load a state, and to the first batch after it."""
    loader = windowed(path).to_torch(batch_size=BATCH)
    batches = iter(loader)
    for _ in range(20):
        next(batches)
    state = loader.state_dict()
    batches.close()
    again = windowed(path).to_torch(batch_size=BATCH)
    begun = time.process_time()
    again.load_state_dict(state)
    seconds = time.process_time() - begun
    next(iter(again))
    return seconds, time.process_time() - begun


def first_batch_seconds(path: Path) -> float:
    begun = time.process_time()
    next(iter(Dataset.from_anndata(path).select(["donor", "X"]).to_torch(batch_size=BATCH)))
    return time.process_time() - begun


def main(rows: int) -> None:
    anndata.settings.allow_write_nullable_strings = True
    with tempfile.TemporaryDirectory() as folder, pd.option_context("mode.string_storage", "python"):
        for compression in (None, "gzip"):
            path = Path(folder, f"{compression}.h5ad")
            write(path, rows, compression)
            runs = contestants(path)
            base = BLOCKS if BLOCKS in runs else "row by row, h5py"
            goals = {"windowed shuffle, torch CSR": (base, 2.0)}
            section(f"{rows:,} x {WIDTH:,}, {ENTRIES:,} entries a row, {compression or 'plain'}", runs, goals, ROUNDS)
            loads, batches = zip(*(resume_seconds(path) for _ in range(ROUNDS)), strict=True)
            line("resume", min(loads), 0.2, "s CPU")
            line("first batch after a resume", min(batches), 1.0, "s CPU")
            line("first batch", min(first_batch_seconds(path) for _ in range(ROUNDS)), 1.0, "s CPU")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)
