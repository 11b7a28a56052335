"""Datasets with files, saved: what goes where, and what is left when it fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.catalog.lake import Lake
from lakefeed.errors import MissingFileError
from lakefeed.storage.blobs.packs import raw_digests, read_index
from lakefeed.storage.disk.hashing import sha256_bytes
from tests.sdk.media.pictures import HEIGHT, WIDTH, encoded, write


def held() -> list[str]:
    """The digests of everything that is stored, as often as it is."""
    objects = Lake.current().blobs.backend.objects
    packs = [raw_digests(read_index(objects, info)) for info in objects.list("packs")]
    alone = [info.key.removeprefix("sha256/").replace("/", "") for info in objects.list("sha256")]
    return sorted([digest.hex() for pack in packs for digest in pack] + alone)


def one_by_one(paths: list[str]) -> Dataset:
    schema = pa.schema({"a": pa.string(), "b": pa.string()})

    def batches() -> Iterator[pa.RecordBatch]:
        for path in paths:
            yield pa.record_batch({"a": [path], "b": [path]}, schema=schema)

    return Dataset.from_batches(batches, schema=schema)


def test_identical_bytes_are_stored_once_across_columns_batches_and_saves(tmp_path: Path) -> None:
    large = os.urandom(2 << 20)
    paths = [write(tmp_path / f"{number}.bin", bytes([number % 3])) for number in range(30)]
    paths += [write(tmp_path / f"large-{number}.bin", large) for number in range(3)]
    saved = one_by_one(paths).save("one", column_types={"a": "file", "b": "file"})
    expected = sorted(sha256_bytes(data) for data in (b"\0", b"\1", b"\2", large))
    assert held() == expected
    assert [row["b"].bytes() for row in saved.rows()] == [bytes([n % 3]) for n in range(30)] + [large] * 3
    one_by_one(paths).append_to("one")
    one_by_one(paths).save("two", column_types={"a": "file", "b": "file"})
    assert held() == expected


def test_statistics_of_many_batches(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{number}.png", encoded() + bytes([number])) for number in range(50)]
    saved = one_by_one(paths).save("one", column_types={"a": "image", "b": "file"})
    assert [(row["a"].width, row["a"].height) for row in saved.rows()] == [(WIDTH, HEIGHT)] * 50
    assert [row["a"].filename for row in saved.rows()] == [f"{number}.png" for number in range(50)]


def test_a_missing_file_names_its_row_and_nothing_is_left(tmp_path: Path, home: Path) -> None:
    paths = [write(tmp_path / f"{number}.bin", b"%d" % number) for number in range(5_000)]
    paths[4_500] = str(tmp_path / "missing.bin")
    with pytest.raises(MissingFileError, match=r"column 'a', row 4500: there is no file '.*missing\.bin'"):
        one_by_one(paths).save("one", column_types={"a": "file", "b": "file"})
    assert not Dataset.exists("one")
    assert held() == []
    assert not [path for path in (home / "warehouse").rglob("*") if path.is_file()]
    assert not [path for path in (home / "blobs" / "tmp").rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_copy_true_copies_remote_files_too(size: int, tmp_path: Path) -> None:
    content = encoded() + bytes(size)
    url = f"memory://{tmp_path.name}/far/cat.png"
    fsspec.filesystem("memory").pipe_file(url, content)
    [row] = Dataset.from_dict({"image": [url]}).save("one", copy_files=True).rows()
    fsspec.filesystem("memory").rm(url)
    image = row["image"]
    assert (image.url, image.size, image.width, image.bytes()) == (url, len(content), WIDTH, content)
    [kept] = Dataset.from_dict({"image": [url]}).save("two").rows()
    assert (kept["image"].url, kept["image"].sha256) == (url, None)
    assert not list(Lake.current().settings.cache.glob("uploads-*"))


def test_files_that_come_with_edits(tmp_path: Path) -> None:
    def rows(*numbers: int) -> Dataset:
        paths = [write(tmp_path / f"{number}.bin", b"%d" % number) for number in numbers]
        return Dataset.from_dict({"id": list(numbers), "file": paths})

    rows(1, 2).save("one", column_types={"file": "file"})
    rows(2, 3).upsert_into("one", keys="id")
    assert sorted(row["file"].bytes() for row in Dataset("one").rows()) == [b"1", b"2", b"3"]
    rows(4).overwrite("one")
    assert [row["file"].bytes() for row in Dataset("one").rows()] == [b"4"]
    assert not list(Lake.current().blobs.backend.objects.list("leases"))
