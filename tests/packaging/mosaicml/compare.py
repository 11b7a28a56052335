"""Compares shards with those of MosaicML's writer, and reads them with its `StreamingDataset`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
from streaming import MDSWriter, StreamingDataset
from torch.utils.data import DataLoader

from lakefeed import Dataset, Table, connect

ROWS = 3_000


def sample_rows() -> pa.Table:
    draw = np.random.default_rng(0)
    tensors = pa.array(draw.random(ROWS * 6), pa.float32())
    return pa.table(
        {
            "id": np.arange(ROWS),
            "small": pa.array(draw.integers(-100, 100, ROWS), pa.int8()),
            "big": pa.array(draw.integers(0, 2**63, ROWS), pa.uint64()),
            "half": pa.array(draw.random(ROWS).astype(np.float16)),
            "real": draw.random(ROWS),
            "text": ["ä" * int(n) for n in draw.integers(0, 20, ROWS)],
            "raw": [draw.bytes(int(n)) for n in draw.integers(0, 50, ROWS)],
            "tensor": pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(tensors, 3), 2),
            "nested": [{"a": [1, None, int(n)], "b": float("nan") if n % 7 == 0 else 0.5} for n in range(ROWS)],
            "flag": draw.random(ROWS) > 0.5,
        }
    )


def encodings() -> dict[str, str]:
    numbers = {"id": "int64", "small": "int8", "big": "uint64", "half": "float16", "real": "float64"}
    return {**numbers, "text": "str", "raw": "bytes", "tensor": "ndarray:float32:2,3", "nested": "json", "flag": "json"}


def write_theirs(rows: pa.Table, folder: Path, limit: int | None) -> None:
    with MDSWriter(out=str(folder), columns=encodings(), size_limit=limit) as writer:
        for row in rows.to_pylist():
            writer.write({**row, "tensor": np.array(row["tensor"], np.float32)})


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def main(folder: Path) -> None:
    rows = sample_rows()
    for limit in (1 << 26, 50_000, 600, None):
        ours, theirs = folder / f"ours-{limit}", folder / f"theirs-{limit}"
        Dataset.from_arrow(rows).to_mds(ours, size_limit=limit)
        write_theirs(rows, theirs, limit)
        assert files(ours) == files(theirs), limit
        read = StreamingDataset(local=str(ours), batch_size=1)
        assert len(read) == ROWS
        assert (read[7]["text"], read[7]["tensor"].tolist()) == (rows["text"][7].as_py(), rows["tensor"][7].as_py())
    table = Table.create("rows", key_schema={"id": pa.int64()})
    table.write(rows.select(["id", "text", "raw", "real"]))
    index = connect().create_key_space_index("spans", 500, table)
    stream = table.to_streaming(index, cache_dir=folder / "stream")
    read = StreamingDataset(streams=[stream], shuffle=False, batch_size=50, num_canonical_nodes=1)
    assert read[2_999]["text"] == rows["text"][2_999].as_py()
    (written,) = (folder / "stream").iterdir()
    assert len(list(written.glob("*.mds"))) == 1  # those that were asked for
    seen = [int(each) for batch in DataLoader(read, batch_size=50, num_workers=2) for each in batch["id"]]
    assert sorted(seen) == list(range(ROWS))
    assert len(list(written.glob("*.mds"))) == 6


if __name__ == "__main__":
    main(Path(sys.argv[1]))
