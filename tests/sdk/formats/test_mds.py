"""Folders of MDS shards, read by a reader of their own, and compared with what MosaicML's writer wrote."""

from __future__ import annotations

import bz2
import datetime as dt
import gzip
import hashlib
import json
import shutil
import struct
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakefeed import Dataset
from lakefeed.errors import (
    ColumnNotFoundError,
    FileError,
    InvalidArgumentError,
    StorageError,
    TransformError,
    TypeMismatchError,
    UnsupportedError,
)
from lakefeed.formats import mds_shards
from lakefeed.formats.mds_shards import MDSLayout, ShardBuilder, build_shards
from tests.sdk.s3 import new_bucket, s3_server

WRITTEN_BY_MDSWRITER = {
    "index.json": "e2e8de964de6930f3e0f5f78096a6b78725a34f8821a645c0c5b19ac9553dbf5",
    "shard.00000.mds": "a029a80cfe1c02bb48bef07f3a2c49f3b46a66bcf8ea4614624ecfaea897eb2e",
    "shard.00001.mds": "57cb2d417ee08fde3dddb1e850d6ecf3340aa01972bc815564813bc2d45f5aac",
    "shard.00002.mds": "484d6eed47f556547fdd3df28ce780c90c37356964a8e91a55cda9092d7686d7",
}
"""SHA-256 of the files that mosaicml-streaming 0.13 wrote of `known_rows`, with a limit of 600 bytes."""


def known_rows() -> pa.Table:
    tensors = pa.array([n + k for k in range(7) for n in range(6)], pa.int16())
    return pa.table(
        {
            "s": ["ä" * k for k in range(7)],
            "b": [bytes(range(k)) for k in range(7)],
            "i": pa.array([-k for k in range(7)], pa.int64()),
            "f": pa.array([k / 3 for k in range(7)], pa.float32()),
            "t": pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(tensors, 3), 2),
            "j": [{"a": [1, None, k], "b": "é"} for k in range(7)],
            "u": pa.array(range(7), pa.uint8()),
        }
    )


def decode(encoding: str, data: bytes) -> Any:
    kind, *rest = encoding.split(":")
    if kind == "ndarray":
        return np.frombuffer(data, rest[0]).reshape([int(size) for size in rest[1].split(",")]).tolist()
    if kind in ("str", "json"):
        return data.decode() if kind == "str" else json.loads(data)
    return data if kind == "bytes" else np.frombuffer(data, kind)[0].item()


def read_samples(data: bytes, entry: dict[str, Any], encodings: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yields the samples of a shard, by the description of the format."""
    (count,) = struct.unpack_from("<I", data)
    offsets = struct.unpack_from(f"<{count + 1}I", data, 4)
    assert (count, offsets[-1]) == (entry["samples"], len(data))
    assert len(data) == entry["raw_data"]["bytes"]
    config = json.loads(data[4 * (count + 2) : offsets[0]])
    assert encodings or config.items() <= entry.items()
    for start, stop in pairwise(offsets):
        sizes = []
        for size in config["column_sizes"]:
            if size is None:
                (size,) = struct.unpack_from("<I", data, start)
                start += 4
            sizes.append(size)
        sample = {}
        used = encodings or config["column_encodings"]
        for name, encoding, size in zip(config["column_names"], used, sizes, strict=True):
            sample[name] = decode(encoding, data[start : start + size])
            start += size
        assert start == stop
        yield sample


def read_folder(folder: Path) -> list[dict[str, Any]]:
    index = json.loads((folder / "index.json").read_text())
    assert index["version"] == 2
    assert {path.name for path in folder.iterdir()} == {
        "index.json",
        *(entry["raw_data"]["basename"] for entry in index["shards"]),
    }
    return [
        sample
        for entry in index["shards"]
        for sample in read_samples((folder / entry["raw_data"]["basename"]).read_bytes(), entry)
    ]


def test_the_bytes_are_those_of_mdswriter(home: Path, tmp_path: Path) -> None:
    rows = Dataset.from_arrow(known_rows())
    assert rows.to_mds(tmp_path / "shards", size_limit=600) == 7
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "shards").iterdir()}
    assert files == WRITTEN_BY_MDSWRITER
    assert read_folder(tmp_path / "shards") == known_rows().to_pylist() != []
    assert Dataset.from_arrow(known_rows().slice(0, 0)).to_mds(tmp_path / "none") == 0
    assert json.loads((tmp_path / "none" / "index.json").read_text()) == {"shards": [], "version": 2}


def test_types(home: Path, tmp_path: Path) -> None:
    day, moment = dt.date(2024, 2, 3), dt.datetime(2024, 2, 3, 4, 5, 6, 7, dt.UTC)
    cube = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    table = pa.table(
        {
            "half": pa.array(np.array([0.5, 1.5], np.float16)),
            "gap": [None, 1.0],
            "big": pa.array([2**63, 1], pa.uint64()),
            "flag": [True, None],
            "view": pa.array(["a", "ü"], pa.string_view()),
            "fixed": pa.array([b"ab", b"cd"], pa.binary(2)),
            "word": pa.array(["x", "y"]).dictionary_encode(),
            "runs": pa.RunEndEncodedArray.from_arrays(pa.array([2], pa.int32()), pa.array([7])),
            "cube": pa.FixedShapeTensorArray.from_numpy_ndarray(cube),
            "ragged": pa.array([[1, 2], None]),
            "empty": pa.array([[], []], pa.list_(pa.int64(), 0)),
            "day": [day, None],
            "moment": pa.array([moment, None], pa.timestamp("us", "UTC")),
            "money": pa.array([Decimal("1.50"), None], pa.decimal128(9, 2)),
            "wait": pa.array([dt.timedelta(seconds=1.5), None], pa.duration("us")),
            "deep": pa.array([{"raw": b"\xff"}, None]),
            "nothing": pa.nulls(2),
        }
    )
    Dataset.from_arrow(table).to_mds(tmp_path / "typed")
    first, second = read_folder(tmp_path / "typed")
    assert np.isnan(first.pop("gap"))
    assert first == {
        "half": 0.5, "big": 2**63, "flag": True, "view": "a", "fixed": b"ab", "word": "x", "runs": 7,
        "cube": cube[0].tolist(), "ragged": [1, 2], "empty": [], "day": "2024-02-03",
        "moment": "2024-02-03T04:05:06.000007+00:00", "money": "1.50", "wait": 1.5, "deep": {"raw": "/w=="},
        "nothing": None,
    }  # fmt: skip
    assert (second["view"], second["gap"], second["cube"], second["flag"]) == ("ü", 1.0, cube[1].tolist(), None)
    encodings = json.loads((tmp_path / "typed" / "index.json").read_text())["shards"][0]["column_encodings"]
    assert encodings[1:4] == ["ndarray:float32:2,3", "json", "json"]


def test_values_that_cannot_be_written(home: Path, tmp_path: Path) -> None:
    vector = pa.list_(pa.int32(), 2)
    for kind, values, message in (
        (pa.int64(), [1, None], "row 2"),
        (pa.string(), [None, "a"], "row 1"),
        (pa.binary(), [b"-", None], "row 2"),
        (vector, [[1, 2], None], "null"),
        (vector, [[1, None], [1, 2]], "null"),
    ):
        rows = pa.table({"x": pa.array([values[0] or values[1], *values], kind)})
        with pytest.raises(TypeMismatchError, match=message):
            Dataset.from_arrow(rows).to_mds(tmp_path / "no")
    floats = pa.array([[0.5, None], [1.0, 2.0]], pa.list_(pa.float32(), 2))
    Dataset.from_arrow(pa.table({"x": floats})).to_mds(tmp_path / "floats")
    assert np.isnan(read_folder(tmp_path / "floats")[0]["x"][1])


def test_a_folder_is_whole_or_absent(home: Path, tmp_path: Path) -> None:
    def fails(row: dict[str, Any]) -> dict[str, Any]:
        if row["x"] == 900:
            raise RuntimeError("no")
        return row

    rows = Dataset.from_dict({"x": list(range(1000))})
    with pytest.raises(TransformError):
        rows.map(fails, schema=rows.schema).to_mds(tmp_path / "half", size_limit=500)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    rows.to_mds(str(tmp_path / "empty"), size_limit=None)
    assert [sample["x"] for sample in read_folder(tmp_path / "empty")] == list(range(1000))
    (tmp_path / "file").write_text("mine")
    for taken in (tmp_path / "empty", tmp_path / "file", tmp_path):
        with pytest.raises(InvalidArgumentError, match="not an empty folder"):
            rows.to_mds(taken)
    for wrong in ("", "https://bucket/x", "s3::https://x", 5, None, "nul\0"):
        with pytest.raises(InvalidArgumentError, match="folder"):
            rows.to_mds(wrong)  # type: ignore[arg-type]
    for limit in (0, -1, 1 << 32, "1 mile", "4gb", "9" * 400, "", True, 1.5):
        with pytest.raises(InvalidArgumentError, match="size_limit"):
            rows.to_mds(tmp_path / "x", size_limit=limit)  # type: ignore[arg-type]
    distant = pa.array([10**7], pa.date32()), pa.array([1 << 62], pa.duration("s"))
    for times in (*distant, pa.array([0], pa.timestamp("s", "No/Zone"))):
        with pytest.raises(TypeMismatchError, match="has no JSON"):
            Dataset.from_arrow(pa.table({"when": times})).to_mds(tmp_path / "x")
    with pytest.raises(StorageError):
        rows.to_mds(tmp_path / "file" / "below")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]


def read_compressed(folder: Path, decompress: Any) -> list[dict[str, Any]]:
    samples = []
    for entry in json.loads((folder / "index.json").read_text())["shards"]:
        zipped, raw = entry["zip_data"], entry["raw_data"]
        file = (folder / zipped["basename"]).read_bytes()
        assert (len(file), hashlib.sha1(file).hexdigest()) == (zipped["bytes"], zipped["hashes"]["sha1"])
        data = decompress(file, raw["bytes"])
        assert hashlib.sha1(data).hexdigest() == raw["hashes"]["sha1"]
        samples += read_samples(data, entry)
    return samples


def test_shards_are_compressed_and_hashed(home: Path, tmp_path: Path) -> None:
    rows = Dataset.from_arrow(known_rows())
    for number, (name, decompress) in enumerate(
        (
            ("gz", lambda data, _: gzip.decompress(data)),
            ("bz2:1", lambda data, _: bz2.decompress(data)),
            *((name, partial(pa.Codec(codec).decompress, asbytes=True)) for name, codec in ARROW_CODECS.items()),
        )
    ):
        folder = tmp_path / str(number)
        assert rows.to_mds(folder, size_limit="0.6kb", compression=name, hashes=["sha1", "md5", "sha1"]) == 7
        assert {path.suffix[1:] for path in folder.glob("shard*")} == {name.split(":")[0]}
        assert read_compressed(folder, decompress) == known_rows().to_pylist()
        entry = json.loads((folder / "index.json").read_text())["shards"][0]
        assert (entry["compression"], entry["hashes"], entry["size_limit"]) == (name, ["md5", "sha1"], 614)
    for wrong in ("lz4", "gz:10", "snappy:1", "zstd:", ":1", 5, ["gz"]):
        with pytest.raises(InvalidArgumentError, match="compression"):
            rows.to_mds(tmp_path / "x", compression=wrong)  # type: ignore[arg-type]
    for names in ("sha1", ["sha"], [5], None, ["shake_128"]):
        with pytest.raises(InvalidArgumentError, match="hash"):
            rows.to_mds(tmp_path / "x", hashes=names)  # type: ignore[arg-type]


ARROW_CODECS = {"zstd:7": "zstd", "br:1": "brotli", "snappy": "snappy"}


def test_columns_get_the_encodings_of_the_caller(home: Path, tmp_path: Path) -> None:
    table = pa.table(
        {
            "tokens": pa.array([[1, 2, 3], [300]], pa.list_(pa.int64())),
            "block": pa.array([[1, 2, 3, 4], [5, 6, 7, 8]], pa.large_list(pa.int32())),
            "photo": [b"\xff\xd8", b"\xff\xd9"],
            "count": pa.array([1, 2], pa.int8()),
            "digits": [10, -3],
            "share": [0.5, float("nan")],
            "price": pa.array([Decimal("1.50"), Decimal(2)]),
            "flag": [True, False],
            "word": ["a", "b"],
        }
    )
    encodings = {
        "tokens": "ndarray:uint16", "block": "ndarray:float32:2,2", "photo": "jpeg", "count": "int",
        "digits": "str_int", "share": "str_float", "price": "str_decimal", "flag": "uint8", "word": "json",
    }  # fmt: skip
    Dataset.from_arrow(table).to_mds(tmp_path / "shards", encodings=encodings)
    entry = json.loads((tmp_path / "shards" / "index.json").read_text())["shards"][0]
    assert dict(zip(entry["column_names"], entry["column_encodings"], strict=True)) == encodings
    sizes = dict(zip(entry["column_names"], entry["column_sizes"], strict=True))
    assert {name: size for name, size in sizes.items() if size is not None} == {"block": 16, "count": 8, "flag": 1}
    kinds = {"photo": "bytes", "tokens": "bytes", "count": "int64", "digits": "str", "share": "str", "price": "str"}
    plain = [kinds.get(name, kind) for name, kind in zip(entry["column_names"], entry["column_encodings"], strict=True)]
    data = (tmp_path / "shards" / "shard.00000.mds").read_bytes()
    first, second = read_samples(data, {**entry, "column_encodings": plain}, plain)
    assert first == {
        "tokens": bytes([4, 3]) + np.array([1, 2, 3], np.uint16).tobytes(), "block": [[1, 2], [3, 4]],
        "photo": b"\xff\xd8", "count": 1, "digits": "10", "share": "0.5", "price": "1.50", "flag": 1, "word": "a",
    }  # fmt: skip
    assert (second["tokens"], second["share"]) == (bytes([4, 1]) + np.array([300], np.uint16).tobytes(), "nan")


def test_encodings_that_do_not_fit(home: Path, tmp_path: Path) -> None:
    def write(values: Any, kind: pa.DataType, encoding: Any) -> None:
        Dataset.from_arrow(pa.table({"x": pa.array(values, kind)})).to_mds(tmp_path / "no", encodings={"x": encoding})

    numbers = pa.list_(pa.int64())
    for values, kind, encoding, message in (
        ([300], pa.int64(), "int8", "cannot hold"),
        ([0.5], pa.float64(), "int", "cannot hold"),
        ([1, None], pa.int64(), "float32", None),
        ([1, None], pa.int64(), "str_int", "row 1"),
        (["a"], pa.string(), "jpeg", "no form"),
        (["a"], pa.string(), "int", "no form"),
        ([1], pa.int64(), "str", "no form"),
        ([[1], []], numbers, "ndarray:int64", "row 1 has 0 values"),
        ([[1, 2], [1]], numbers, "ndarray:int64:2", "row 1 has 1 values"),
        ([[1, None]], numbers, "ndarray:int64", "null"),
        ([[70_000]], numbers, "ndarray:uint16", "cannot hold"),
        ([[[1]]], pa.list_(numbers), "ndarray:int64", "no form"),
        ([[1, 2]], pa.list_(pa.int64(), 2), "ndarray:int64:3", "no form"),
    ):
        if message is None:
            write(values, kind, encoding)
            assert np.isnan(read_folder(tmp_path / "no")[1]["x"])
            shutil.rmtree(tmp_path / "no")
            continue
        with pytest.raises(TypeMismatchError, match=message):
            write(values, kind, encoding)
    for encoding in ("pkl", "", "ndarray", "ndarray:int", "ndarray:int64:0", "ndarray:int64:2,", 5, None):
        with pytest.raises(InvalidArgumentError, match="encoding"):
            write([1], pa.int64(), encoding)
    with pytest.raises(ColumnNotFoundError, match="'y'"):
        Dataset.from_dict({"x": [1]}).to_mds(tmp_path / "no", encodings={"y": "int"})
    assert list(tmp_path.iterdir()) == []


def test_shards_are_written_to_a_store_and_the_index_is_the_last(home: Path, tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    rows = Dataset.from_arrow(known_rows())
    assert rows.to_mds("memory://mds/shards/", size_limit=600) == 7
    names = {path.rpartition("/")[2]: store.cat_file(path) for path in store.find("/mds/shards")}
    assert {name: hashlib.sha256(data).hexdigest() for name, data in names.items()} == WRITTEN_BY_MDSWRITER
    created = {path.rpartition("/")[2]: store.created(path) for path in store.find("/mds/shards")}
    assert max(created, key=lambda name: created[name]) == "index.json"
    with pytest.raises(InvalidArgumentError, match="not empty"):
        rows.to_mds("memory://mds/shards")

    def fails(row: dict[str, Any]) -> dict[str, Any]:
        if row["i"] == -6:
            assert store.find("/mds/half")
            raise RuntimeError("no")
        return row

    with pytest.raises(TransformError):
        rows.map(fails, schema=rows.schema).to_mds("memory://mds/half", size_limit=600)
    assert store.find("/mds/half") == []
    with pytest.raises(FileError):
        rows.to_mds("nostore://x/y")
    store.rm("/mds", recursive=True)


@pytest.mark.live
def test_shards_are_written_to_s3(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server() as options:
        url = new_bucket(options, "shards")
        monkeypatch.setenv("LAKEFEED__FILES__OPTIONS__S3", json.dumps(options))
        rows = Dataset.from_arrow(known_rows())
        assert rows.to_mds(f"{url}/a/b", size_limit=600, compression="zstd") == 7
        fs = fsspec.filesystem("s3", **options)
        assert sorted(path.rpartition("/")[2] for path in fs.find("shards/a/b"))[0] == "index.json"
        with pytest.raises(InvalidArgumentError, match="not empty"):
            rows.to_mds(f"{url}/a/b")
        with pytest.raises(StorageError, match="cannot write"):
            rows.to_mds("s3://missing-bucket/x")


def test_files_are_bytes(home: Path, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"content")
    paths = Dataset.from_dict({"photo": [str(tmp_path / "a.bin")]})
    saved = paths.save("files", column_types={"photo": "image"})
    saved.to_mds(tmp_path / "out")
    assert read_folder(tmp_path / "out") == [{"photo": b"content"}]


VALUES = {
    "text": (pa.string(), st.text(st.characters(exclude_categories=["Cs"]), max_size=9)),
    "raw": (pa.large_binary(), st.binary(max_size=9)),
    "number": (pa.int16(), st.integers(-(2**15), 2**15 - 1)),
    "real": (pa.float64(), st.floats(allow_nan=False)),
    "pair": (pa.list_(pa.uint8(), 2), st.lists(st.integers(0, 255), min_size=2, max_size=2)),
    "list": (pa.list_(pa.int64()), st.lists(st.integers(-9, 9) | st.none(), max_size=3) | st.none()),
}


@settings(max_examples=15)
@given(st.data())
def test_any_rows_come_back(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, unique=True))
    rows = data.draw(st.lists(st.fixed_dictionaries({name: VALUES[name][1] for name in names}), max_size=12))
    limit = data.draw(st.none() | st.integers(1, 800))
    table = pa.Table.from_pylist(rows, pa.schema([(name, VALUES[name][0]) for name in names]))
    start = data.draw(st.integers(0, len(rows)))
    layout = MDSLayout.of(table.schema, limit)
    batches = table.slice(start).to_batches(max_chunksize=data.draw(st.integers(1, 5)))
    samples = []
    for number, shard in enumerate(build_shards(layout, batches)):
        content = b"".join(bytes(memoryview(piece)) for piece in shard.pieces())
        assert len(content) == shard.size
        assert limit is None or shard.size <= limit or shard.samples <= 1
        samples += read_samples(content, layout.index_entry(number, shard.samples, shard.size))
    assert samples == table.slice(start).to_pylist()


def test_a_shard_has_less_than_four_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mds_shards, "MAX_SHARD_BYTES", 1000)
    layout = MDSLayout.of(pa.schema({"x": pa.string()}), None)
    shard = ShardBuilder(layout)
    with pytest.raises(UnsupportedError, match="4 GiB"):
        shard.add(layout.samples(pa.record_batch({"x": ["a" * 1000]}), 0))
