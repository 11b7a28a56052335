"""Compares shards with those of MosaicML's writer, and reads them with its `StreamingDataset`."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from streaming import MDSWriter, StreamingDataset
from streaming.base.compression import decompress
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


def write_theirs(rows: pa.Table, folder: Path, limit: int | None, **options: Any) -> None:
    with MDSWriter(out=str(folder), columns=encodings(), size_limit=limit, **options) as writer:
        for row in rows.to_pylist():
            writer.write({**row, "tensor": np.array(row["tensor"], np.float32)})


def encoded_rows() -> pa.Table:
    draw = np.random.default_rng(1)
    lengths = draw.integers(1, 400, 300)
    return pa.table(
        {
            "tokens": [draw.integers(0, 50_000, int(n)).tolist() for n in lengths],
            "block": [draw.integers(0, 50_000, 12).tolist() for _ in lengths],
            "grid": pa.FixedSizeListArray.from_arrays(
                pa.FixedSizeListArray.from_arrays(pa.array(draw.random(1_800)), 3), 2
            ),
            "photo": [draw.bytes(9) for _ in lengths],
            "count": pa.array(lengths, pa.int16()),
            "digits": pa.array(lengths),
            "share": draw.random(300),
            "price": [Decimal(int(n)) / 100 for n in lengths],
        }
    )


ENCODED = {
    "tokens": "ndarray:uint16", "block": "ndarray:int32:3,4", "grid": "ndarray:float32", "photo": "jpeg",
    "count": "int", "digits": "str_int", "share": "str_float", "price": "str_decimal",
}  # fmt: skip


def as_theirs(row: dict[str, Any]) -> dict[str, Any]:
    arrays = {
        "tokens": np.array(row["tokens"], np.uint16),
        "block": np.array(row["block"], np.int32).reshape(3, 4),
        "grid": np.array(row["grid"], np.float32),
    }
    return {**row, **arrays}


def compare_encodings(folder: Path) -> None:
    """Columns in encodings of the caller are those of ``MDSWriter``."""
    rows = encoded_rows()
    ours, theirs = folder / "ours", folder / "theirs"
    Dataset.from_arrow(rows).to_mds(ours, size_limit="20kb", encodings=ENCODED, hashes=["xxh64", "sha1"])
    with MDSWriter(out=str(theirs), columns=ENCODED, size_limit="20kb", hashes=["sha1", "xxh64"]) as writer:
        for row in rows.to_pylist():
            writer.write(as_theirs(row))
    assert files(ours) == files(theirs)


def compare_compressed(folder: Path) -> None:
    """Compressed shards are read, with their hashes checked, and have the content of those of ``MDSWriter``."""
    rows = sample_rows()
    for name in ("zstd", "zstd:7", "gz:1", "br:3", "bz2", "snappy"):
        ours, theirs = folder / f"ours-{name}", folder / f"theirs-{name}"
        Dataset.from_arrow(rows).to_mds(ours, size_limit=60_000, compression=name, hashes=["sha1", "xxh64"])
        write_theirs(rows, theirs, 60_000, compression=name, hashes=["sha1", "xxh64"])
        assert {path.name for path in ours.iterdir()} == {path.name for path in theirs.iterdir()}
        for path in ours.glob("shard*"):
            data = [decompress(name, (side / path.name).read_bytes()) for side in (ours, theirs)]
            assert data[0] == data[1]
        index = [json.loads((side / "index.json").read_text())["shards"] for side in (ours, theirs)]
        for entries in index:
            for entry in entries:
                del entry["zip_data"]["bytes"], entry["zip_data"]["hashes"]  # the libraries may differ
        assert index[0] == index[1]
        copy = folder / f"copy-{name}"
        read = StreamingDataset(remote=str(ours), local=str(copy), batch_size=1, validate_hash="sha1")
        assert [row["text"] for row in read] == rows["text"].to_pylist()


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
    compare_encodings(folder / "encoded")
    compare_compressed(folder / "compressed")
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
