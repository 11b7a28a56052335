"""The digits that ship with scikit-learn as deliveries: folders of PNG files with a labels file."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

DELIVERIES = 3
# What load_digits() counts as full ink.
DARKEST = 16


def land(folder: Path, delivery: int) -> int:
    """Writes delivery 1, 2 or 3 into the landing folder, unless it is there; returns its number of images.

    The labels file gets its name last, so that nobody sees half a delivery.
    """
    images, labels = _digits()
    ids = np.array_split(np.arange(len(labels)), DELIVERIES)[delivery - 1]
    delivery_folder = folder / f"delivery-{delivery}"
    if not (delivery_folder / "labels.csv").exists():
        (delivery_folder / "images").mkdir(parents=True, exist_ok=True)
        for number in ids:
            Image.fromarray(images[number]).save(delivery_folder / _file(number))
        _write_labels(delivery_folder, [(int(number), _file(number), int(labels[number])) for number in ids])
    return len(ids)


def _digits() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.round(bunch.images * (255 / DARKEST)).astype(np.uint8), bunch.target


def _file(number: int) -> str:
    return f"images/{number:04d}.png"


def _write_labels(delivery_folder: Path, rows: list[tuple[int, str, int]]) -> None:
    unfinished = delivery_folder / "labels.csv.part"
    with unfinished.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "file", "label"])
        writer.writerows(rows)
    unfinished.rename(delivery_folder / "labels.csv")
