"""JPEGs decoded in worker processes: the loader against bare PIL."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from _loader_peers import drained
from _measuring import section

from lakefeed import Dataset

JPEG_BATCH = 64
PROCESSES = 2


def jpegs(folder: Path, count: int) -> list[str]:
    """Photos of 320 x 240, about 20 KB each."""
    from PIL import Image

    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(1)
    places = [folder / f"{index:06d}.jpg" for index in range(count)]
    for place in places:
        if not place.exists():
            rough = Image.fromarray(random.integers(0, 256, (30, 40, 3), dtype=np.uint8))
            rough.resize((320, 240), Image.Resampling.BICUBIC).save(place, quality=90)
    return [str(place) for place in places]


def decoded(content: bytes) -> Any:
    """The pixels."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def decode_files(places: list[str]) -> int:
    """Bare PIL over some files."""
    return sum(decoded(Path(place).read_bytes()).shape[0] > 0 for place in places)


def decode_batch(batch: dict[str, Any]) -> dict[str, Any]:
    """``collate_fn``: a batch of images as one tensor."""
    import torch

    images = [decoded(content) for content in batch["photo"]]
    return {"label": batch["label"], "photo": torch.from_numpy(np.stack(images))}


def bare(places: list[str]) -> int:
    """Bare PIL in as many processes, whose images stay where they are."""
    parts = [places[start : start + JPEG_BATCH] for start in range(0, len(places), JPEG_BATCH)]
    with ProcessPoolExecutor(PROCESSES) as pool:
        return sum(pool.map(decode_files, parts))


class Files:
    """A map-style dataset of torch: labels and contents of files."""

    def __init__(self, places: Sequence[str]) -> None:
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> tuple[int, bytes]:
        return index, Path(self._places[index]).read_bytes()


def decode_rows(rows: list[tuple[int, bytes]]) -> dict[str, Any]:
    """``collate_fn`` of such rows: what `decode_batch` gives."""
    import torch

    labels, contents = zip(*rows, strict=True)
    return decode_batch({"label": torch.tensor(labels), "photo": contents})


def images(home: Path, count: int, rounds: int) -> None:
    """Epochs of shuffled files, decoded in ``collate_fn`` by worker processes that hand over the pixels."""
    from torch.utils.data import DataLoader

    places = jpegs(home / "jpegs", count)
    if not Dataset.exists("photos"):
        rows = Dataset.from_dict({"label": list(range(count)), "photo": places})
        rows.save("photos", column_types={"photo": "image"}, stats=False)
    options: dict[str, Any] = {"batch_size": JPEG_BATCH, "num_workers": PROCESSES}
    ours = Dataset("photos", version=1).shuffle(1).to_torch(load_files="bytes", collate_fn=decode_batch, **options)
    plain: Any = DataLoader(Files(places), shuffle=True, collate_fn=decode_rows, **options)  # type: ignore[arg-type]
    section(
        f"{count:,} JPEGs decoded in {PROCESSES} processes",
        {
            "bare PIL, nothing handed over": lambda: bare(places),
            "bare PIL in a DataLoader": lambda: drained(plain),
            "lakefeed, collate_fn": lambda: drained(ours),
        },
        {"lakefeed, collate_fn": ("bare PIL in a DataLoader", 0.95)},
        rounds,
    )
