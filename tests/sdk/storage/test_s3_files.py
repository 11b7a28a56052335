"""M45, M16: files in an S3, with the options of the settings."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakefeed import Dataset, File
from lakefeed.errors import AccessDeniedError, ChangedFileError, FileError, MissingFileError, RefusedTargetError
from lakefeed.ingest import FolderSource, ManifestSource, ingest
from lakefeed.ingest.ledger import ListedFile
from lakefeed.storage.blobs.blob_store import BlobStore
from tests.sdk.s3 import new_bucket, s3_server
from tests.sdk.web import Handler, Site, serving

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, Any]]:
    with s3_server() as options:
        yield options


@pytest.fixture
def bucket(s3: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("LAKEFEED__FILES__OPTIONS", json.dumps({"s3": s3}))
    monkeypatch.setenv("LAKEFEED__FILES__MIN_WAIT", "0")
    return new_bucket(s3, f"b-{uuid.uuid4().hex}")


def put(s3: dict[str, Any], url: str, content: bytes) -> str:
    fs = fsspec.filesystem("s3", **s3)
    fs.pipe_file(url, content)
    return url


@pytest.mark.parametrize("mode", ["bytes", "path"])
def test_references_in_an_s3(s3: dict[str, Any], bucket: str, mode: Any) -> None:
    contents = [b"%d" % n * 100 for n in range(20)] + [b"x" * (9 << 20)]
    urls = [put(s3, f"{bucket}/{n}.bin", content) for n, content in enumerate(contents)]
    saved = Dataset.from_dict({"f": [*urls, None]}).save("files", column_types={"f": "file"})
    assert saved.to_arrow()["f"].to_pylist()[0]["url"] == urls[0]
    loaded = [row["f"] for row in saved.load_files(mode)]
    if mode == "path":
        assert {Path(path).suffix for path in loaded if path} == {".bin"}
        loaded = [path and Path(path).read_bytes() for path in loaded]
    assert loaded == [*contents, None]


def test_a_stale_copy_of_an_s3_is_used_while_it_is_the_same(
    s3: dict[str, Any], bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEFEED__FILES__FRESH", "0")
    url = put(s3, f"{bucket}/a.bin", b"old")
    files = Dataset.from_dict({"f": [url]}).save("files", column_types={"f": "file"}).load_files("bytes")
    assert [row["f"] for row in files] == [b"old"]
    assert [row["f"] for row in files] == [b"old"]
    put(s3, url, b"newer")
    fsspec.filesystem("s3", **s3).invalidate_cache()
    assert [row["f"] for row in files] == [b"newer"]


def test_what_is_not_in_an_s3(bucket: str) -> None:
    files = Dataset.from_dict({"f": [f"{bucket}/gone.bin"]}).save("files", column_types={"f": "file"})
    with pytest.raises(MissingFileError, match=f"there is no file '{bucket}/gone.bin'"):
        list(files.load_files("bytes"))
    assert [row["f"] for row in files.load_files("bytes", on_error="null")] == [None]


def test_files_of_an_s3_are_copied_into_the_store(s3: dict[str, Any], bucket: str) -> None:
    url = put(s3, f"{bucket}/a.bin", b"content")
    rows = Dataset.from_dict({"f": [url]}).save("files", column_types={"f": "file"}, copy_files=True)
    fsspec.filesystem("s3", **s3).rm(url)
    assert [row["f"] for row in rows.load_files("bytes")] == [b"content"]


@pytest.mark.parametrize("pattern", ["rows-1.csv", "rows-*.csv"])
def test_rows_of_files_in_an_s3(s3: dict[str, Any], bucket: str, pattern: str) -> None:
    for n in (1, 2):
        put(s3, f"{bucket}/rows-{n}.csv", b"x\n%d\n" % n)
    expected = [1] if "*" not in pattern else [1, 2]
    assert Dataset.from_file(f"{bucket}/{pattern}").to_arrow()["x"].to_pylist() == expected


def test_a_bucket_that_is_not_there(bucket: str) -> None:
    with pytest.raises(FileError, match=r"rows\.csv"):
        Dataset.from_file("s3://no-such-bucket-at-all/rows.csv").to_arrow()


# ------------------------------------------------------------------------------------------------ one state, lists


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_an_object_replaced_between_two_ranges_is_an_error(s3: dict[str, Any], bucket: str, name: str) -> None:
    """Of the same size, so that only its ETag tells; the store is asked with ``If-Match``."""

    def content(value: int) -> bytes:
        table = pa.table({"x": pa.array([value] * 2_000_000, pa.int64())})
        if name == "a.csv":
            return b"x,y\n" + b"%d,%b\n" % (value, b"y" * 100) * 120_000
        sink = io.BytesIO()
        pq.write_table(table, sink, row_group_size=200_000, compression="none", use_dictionary=False)
        return sink.getvalue()

    url = put(s3, f"{bucket}/{name}", content(1))
    rows = Dataset.from_file(url)
    batches = rows.batches(format="arrow")
    assert next(batches)["x"][0].as_py() == 1
    put(s3, url, content(2))
    with pytest.raises(ChangedFileError, match=f"{name}' changed while it was read"):
        list(batches)
    assert set(rows.to_arrow()["x"].to_pylist()) == {2}


def test_what_was_listed_before_is_not_taken_for_what_is_there(s3: dict[str, Any], bucket: str) -> None:
    put(s3, f"{bucket}/in/a.csv", b"x\n1\n")
    assert Dataset.from_file(f"{bucket}/in/*.csv").to_arrow()["x"].to_pylist() == [1]
    put(s3, f"{bucket}/in/a.csv", b"x\n2\n")
    put(s3, f"{bucket}/in/b.csv", b"x\n3\n")
    assert Dataset.from_file(f"{bucket}/in/*.csv").to_arrow()["x"].to_pylist() == [2, 3]


@pytest.mark.parametrize("more", [{}, {"use_listings_cache": True}])
def test_a_process_sees_what_others_write_later(
    s3: dict[str, Any], bucket: str, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEFEED__FILES__OPTIONS", json.dumps({"s3": {**s3, **more}}))
    monkeypatch.setenv("LAKEFEED__FILES__FRESH", "0")
    url = put(s3, f"{bucket}/in/a.bin", b"123")
    source = FolderSource("files", "files", f"{bucket}/in", "*.bin", settle=0)
    assert [(file.path, file.size) for file in source.list_files()] == [("a.bin", 3)]
    files = Dataset.from_dict({"f": [url]}).with_column_types({"f": "file"}).load_files("bytes")
    assert [row["f"] for row in files] == [b"123"]
    for name in ("a.bin", "b.bin"):
        put(s3, f"{bucket}/in/{name}", b"12345")
    assert [(file.path, file.size) for file in source.list_files()] == [("a.bin", 5), ("b.bin", 5)]
    assert File(url).bytes() == b"12345"
    assert [row["f"] for row in files] == [b"12345"]
    assert source.current(ListedFile("a.bin")).size == 5


def test_a_manifest_in_an_s3_names_keys_of_its_bucket(s3: dict[str, Any], bucket: str, tmp_path: Path) -> None:
    put(s3, f"{bucket}/in/a.csv", b"x\n1\n")
    put(s3, f"{bucket}/b.csv", b"x\n2\n")
    (tmp_path / "c.csv").write_text("x\n666\n")
    place = put(s3, f"{bucket}/in/files.txt", f"a.csv\n{bucket}/b.csv\n".encode())
    source = ManifestSource("numbers", "numbers", place)
    assert [result.files for result in ingest(source)] == [("a.csv", f"{bucket}/b.csv")]
    assert Dataset("numbers").to_arrow()["x"].to_pylist() == [1, 2]
    for entry in (f"file://{tmp_path}/c.csv", "s3://other/c.csv", "https://host/c.csv", "../../c.csv"):
        put(s3, place, f"a.csv\n{entry}\n".encode())
        with pytest.raises(RefusedTargetError, match="names"):
            list(ingest(source))
    put(s3, place, f"{tmp_path}/c.csv\n".encode())  # a key of the bucket
    with pytest.raises(MissingFileError):
        list(ingest(source))


# ------------------------------------------------------------------------------------------------ wrong keys


@pytest.fixture
def refusing() -> Iterator[Site]:
    """An S3 that refuses every key."""

    def refuse(handler: Handler) -> None:
        handler.answer(
            403,
            b"<?xml version='1.0'?><Error><Code>InvalidAccessKeyId</Code><Message>no such key</Message></Error>",
        )

    with serving() as site:
        for method in ("do_GET", "do_HEAD", "do_PUT"):
            setattr(site.handler, method, refuse)
        yield site


def test_keys_that_a_store_refuses_name_the_setting(
    refusing: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = {"key": "wrong", "secret": "wrong", "client_kwargs": {"endpoint_url": refusing.url}}
    monkeypatch.setenv("LAKEFEED__FILES__OPTIONS", json.dumps({"s3": options}))
    for place in ("s3://bucket/a.csv", "s3://bucket/*.csv", "zip://a.csv::s3://bucket/a.zip"):
        with pytest.raises(AccessDeniedError, match=r"refuses .*files\.options\['s3'\].*AWS_ACCESS_KEY_ID"):
            Dataset.from_file(place)
    store = BlobStore("s3://bucket/blobs", tmp_path / "cache", options=options)
    with pytest.raises(AccessDeniedError, match=r"refuses .*blobs\.options"):
        store.put(io.BytesIO(b"content"))
    with pytest.raises(AccessDeniedError, match=r"refuses .*blobs\.options"):
        store.read("0" * 64)


def test_keys_that_are_not_there_name_the_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    options = {"client_kwargs": {"endpoint_url": "http://127.0.0.1:9"}, "skip_instance_cache": True}
    monkeypatch.setenv("LAKEFEED__FILES__OPTIONS", json.dumps({"s3": options}))
    with pytest.raises(AccessDeniedError, match=r"files\.options\['s3'\]"):
        Dataset.from_file("s3://bucket/a.csv")
