"""The loaders of others, as far as they are installed, shuffled as well as they do, over a part of the rows.

pip install datasets litdata pylance grain      # in an environment of their own, if they do not suit the pins
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

BATCH = 256
NUMERIC = ["id", "label", "score", "features"]
PEER_ROWS = 50_000
BUFFER_ROWS = 10_000


def drained(batches: Iterable[Mapping[str, Any]]) -> int:
    """Rows of the batches."""
    return sum(len(batch["label"]) for batch in batches)


def peers(paths: list[str], home: Path) -> dict[str, Callable[[], int]]:
    """What there is."""
    found: dict[str, Callable[[], int]] = {}
    for package, made in {"datasets": _hugging_face, "litdata": _litdata, "lance": _lance, "grain": _grain}.items():
        if find_spec(package):
            found |= made(paths, home)
    return found


def _some(paths: list[str]) -> pa.Table:
    return ds.dataset(paths).head(PEER_ROWS, columns=NUMERIC).combine_chunks()


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Rows as samples of numpy."""
    columns = [np.asarray(table.column(name).combine_chunks().to_pylist()) for name in NUMERIC]
    return (dict(zip(NUMERIC, row, strict=True)) for row in zip(*columns, strict=True))


def _hugging_face(paths: list[str], home: Path) -> dict[str, Callable[[], int]]:
    import datasets
    from torch.utils.data import DataLoader

    datasets.disable_progress_bars()
    files: dict[str, Any] = {"data_files": paths, "split": "train"}
    streamed = datasets.load_dataset("parquet", streaming=True, **files).select_columns(NUMERIC).with_format("torch")
    mixed = streamed.shuffle(1, buffer_size=BUFFER_ROWS).take(PEER_ROWS)
    mapped = datasets.load_dataset("parquet", **files).select_columns(NUMERIC).with_format("torch")
    few = mapped.shuffle(1).select(range(PEER_ROWS))
    return {
        "Hugging Face, streaming, shuffled": lambda: drained(DataLoader(mixed, batch_size=BATCH)),
        "Hugging Face, map-style, shuffled": lambda: drained(DataLoader(few, batch_size=BATCH)),
    }


def _litdata(paths: list[str], home: Path) -> dict[str, Callable[[], int]]:
    import litdata

    place = home / "litdata"
    if not place.exists():
        from litdata.streaming import Cache

        cache = Cache(str(place), chunk_bytes="64MB")
        for index, row in enumerate(_rows(_some(paths))):
            cache[index] = row
        cache.done()
        cache.merge()
    streamed = litdata.StreamingDataset(str(place), shuffle=True, seed=1)
    return {"litdata, shuffled": lambda: drained(litdata.StreamingDataLoader(streamed, batch_size=BATCH))}


def _lance(paths: list[str], home: Path) -> dict[str, Callable[[], int]]:
    import lance
    from torch.utils.data import DataLoader

    place = home / "rows.lance"
    data = lance.dataset(str(place)) if place.exists() else lance.write_dataset(_some(paths), str(place))

    def taken() -> int:
        order = np.random.default_rng(1).permutation(PEER_ROWS)
        parts = [order[start : start + BATCH] for start in range(0, PEER_ROWS, BATCH)]
        return drained(DataLoader(parts, batch_size=None, collate_fn=lambda places: _tensors(data.take(places))))

    return {"lance, rows taken in random order": taken}


def _tensors(table: pa.Table) -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {}
    for name in NUMERIC:
        column: Any = table.column(name).combine_chunks()
        wide = name == "features"
        values = (column.flatten() if wide else column).to_numpy(zero_copy_only=False).copy()
        found[name] = torch.from_numpy(values.reshape(len(column), -1) if wide else values)
    return found


def _grain(paths: list[str], home: Path) -> dict[str, Callable[[], int]]:
    import grain

    rows = list(_rows(_some(paths)))
    mixed = grain.MapDataset.source(rows).shuffle(1).batch(BATCH).to_iter_dataset()
    return {"grain, rows of memory, shuffled": lambda: drained(mixed)}
