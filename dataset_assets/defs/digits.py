"""Handwritten digits: deliveries of PNG files with labels, and the features that a model trains on."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from dataset_assets.dataset import DatasetSpec
from dataset_assets.ingestion import FolderIngestion
from dataset_assets.routine import routine
from lakefeed import Dataset
from lakefeed.checks import InRange, NotNull, Unique

SIDE = 8
BATCH_ROWS = 256
DELIVERED_COLUMNS: dict[str, pa.DataType] = {"id": pa.int64(), "label": pa.int64(), "image": pa.string()}
FEATURE_COLUMNS: dict[str, pa.DataType] = {
    "id": pa.int64(),
    "label": pa.int64(),
    "features": pa.list_(pa.float32(), SIDE * SIDE),
    "ink": pa.float32(),
    "look": pa.string(),
}
DELIVERED, FEATURES = pa.schema(DELIVERED_COLUMNS), pa.schema(FEATURE_COLUMNS)
Pixels: TypeAlias = npt.NDArray[np.float32]

digits = DatasetSpec(
    "digits",
    description="Scanned handwritten digits, 8 x 8 pixels, as they were delivered.",
    checks=[NotNull("image"), Unique("id"), InRange("label", 0, 9)],
)
features = DatasetSpec(
    "digits_features",
    description="Of each digit: deskewed and normalised pixels, its share of `ink` (near 0: an empty scan), "
    "and its `look`, the same for near-duplicates.",
)


def read_delivery(labels: Path) -> Dataset:
    """The rows of a delivery: ``id``, ``label``, and the image that ``file`` names, relative to the labels file."""

    def resolved(batch: pa.RecordBatch) -> pa.RecordBatch:
        images = pa.array([str(labels.parent / str(name)) for name in batch["file"].to_pylist()], pa.string())
        return pa.RecordBatch.from_arrays([batch["id"], batch["label"], images], schema=DELIVERED)

    return Dataset.from_file(str(labels)).map_batches(resolved, schema=DELIVERED)


deliveries = FolderIngestion(
    "digits",
    into="digits",
    folder="landing/digits",
    # A delivery's images are all there before its labels file gets this name.
    pattern="*/labels.csv",
    read=read_delivery,
    column_types={"image": "image"},
    description="Deliveries land in `landing/digits` of the lake's home; each is one version.",
    settle=1.0,
)


@routine(on="digits", into="digits_features", schema=FEATURES)
def digits_features(rows: Dataset) -> Iterator[pa.RecordBatch]:
    """Deskewed, normalised pixels of each new digit, with flags for empty scans and near-duplicates."""
    for batch in rows.load_files({"image": "bytes"}).batches(BATCH_ROWS, format="arrow"):
        images = np.stack([pixels(data) for data in batch["image"].to_pylist()])
        upright = np.stack([deskew(image) for image in images])
        yield pa.RecordBatch.from_arrays(
            [
                batch["id"],
                batch["label"],
                pa.FixedSizeListArray.from_arrays(pa.array(normalised(upright).ravel()), SIDE * SIDE),
                pa.array(images.mean(axis=(1, 2)), pa.float32()),
                pa.array([look(image) for image in upright], pa.string()),
            ],
            schema=FEATURES,
        )


def pixels(png: bytes) -> Pixels:
    """Shape (8, 8), 0 (paper) to 1 (ink)."""
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("L")).astype(np.float32) / np.float32(255)


def deskew(image: Pixels) -> Pixels:
    """The image sheared upright and centred sideways, by its moments; each row is shifted as a whole."""
    down, across = np.mgrid[: image.shape[0], : image.shape[1]]
    ink = float(image.sum())
    if ink == 0:
        return image
    middle_down, middle_across = (down * image).sum() / ink, (across * image).sum() / ink
    variance = ((down - middle_down) ** 2 * image).sum()
    slant = ((down - middle_down) * (across - middle_across) * image).sum() / variance if variance else 0.0
    columns = np.arange(image.shape[1])
    shifts = slant * (np.arange(image.shape[0]) - middle_down) + middle_across - columns.mean()
    rows = [np.interp(columns + shift, columns, row, left=0, right=0) for row, shift in zip(image, shifts, strict=True)]
    return np.stack(rows).astype(np.float32)


def normalised(images: Pixels) -> Pixels:
    """Each image with mean 0 and deviation 1 (an empty one: all 0), float32."""
    centred = images - images.mean(axis=(1, 2), keepdims=True)
    deviation = images.std(axis=(1, 2), keepdims=True)
    scaled: Pixels = (centred / np.where(deviation > 0, deviation, 1)).astype(np.float32)
    return scaled


def look(image: Pixels) -> str:
    """An average hash, 16 hex digits: near-duplicates share it."""
    return np.packbits(image > image.mean()).tobytes().hex()
