"""The first batch of large sets of .h5ad files, in new processes: it must not grow with the size of a file.

    python sdk/benchmarks/anndata_first_batch.py [cells of the large file] [number of files] [folder]

The matrices have 1,000 entries a cell of 8 bytes, so 12,500,000 cells (the default) are 100 GB uncompressed. All chunks
have the same content, which takes 1.5 GB on disk; the many files are links to one file of 62,500 cells. CPU seconds,
the best of three processes, after the imports of lakefeed, PyTorch and h5py, for windowed batches of X and a column.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import scipy.sparse
from _measuring import line

CELLS, FILES, CELLS_OF_FILE = 12_500_000, 200, 62_500
WIDTH, ENTRIES, CHUNK, ROUNDS = 20_000, 1_000, 30_000, 3

FIRST_BATCH = """
import sys, time, h5py, torch, lakefeed
begun = time.process_time()
cells = lakefeed.Dataset.from_anndata(sys.argv[1]).select(["kind", "X"])
next(iter(cells.shuffle(seed=1, window=8192, global_=False).to_torch(batch_size=128)))
print(time.process_time() - begun)
"""


def write(path: Path, cells: int) -> None:
    """Writes a file whose chunks are copies of one."""
    kinds = pd.Categorical.from_codes(np.arange(cells) % 7, list("abcdefg"))
    obs = pd.DataFrame({"kind": kinds}, index=pd.RangeIndex(cells).astype(str))
    var = pd.DataFrame(index=[f"gene{number}" for number in range(WIDTH)])
    empty = scipy.sparse.csr_matrix((cells, WIDTH), dtype="f4")
    anndata.AnnData(empty, obs=obs, var=var).write_h5ad(path, compression="gzip")
    columns = np.sort(np.random.default_rng(0).permutation(WIDTH)[:ENTRIES]).astype("i4")
    parts = {"indices": np.tile(columns, CHUNK // ENTRIES), "data": np.ones(CHUNK, "f4")}
    with h5py.File(path, "r+") as file:
        for name, part in parts.items():
            del file["X"][name]
            stored = file["X"].create_dataset(name, (cells * ENTRIES,), part.dtype, chunks=(CHUNK,), compression="gzip")
            content = zlib.compress(part.tobytes())
            for start in range(0, cells * ENTRIES, CHUNK):
                stored.id.write_direct_chunk((start,), content)
        del file["X/indptr"]
        file["X"].create_dataset("indptr", data=np.arange(cells + 1) * ENTRIES, compression="gzip")


def first_batch(location: str) -> float:
    run = [sys.executable, "-c", FIRST_BATCH, location]
    return min(float(subprocess.run(run, check=True, capture_output=True).stdout) for _ in range(ROUNDS))


def main(cells: int, files: int, parent: str | None) -> None:
    anndata.settings.allow_write_nullable_strings = True
    with tempfile.TemporaryDirectory(dir=parent) as folder, pd.option_context("mode.string_storage", "python"):
        large, small = Path(folder, "large.h5ad"), Path(folder, "small.h5ad")
        write(small, CELLS_OF_FILE)
        write(large, cells)
        for number in range(files):
            Path(folder, f"part{number}.h5ad").hardlink_to(small)
        base = first_batch(str(small))
        line(f"{CELLS_OF_FILE:,} cells", base, 1.0, "s CPU")
        line(f"{cells:,} cells, one file", first_batch(str(large)), 1.0, "s CPU")
        each = (first_batch(f"{folder}/part*.h5ad") - base) / max(files - 1, 1)
        line(f"each further file of {files}", 1000 * each, 0.0, "ms CPU")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(int(given[0]) if given else CELLS, int(given[1]) if given[1:] else FILES, given[2] if given[2:] else None)
