"""M45, M16: files in an S3, with the options of the settings."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from lakefeed import Dataset
from lakefeed.errors import FileError, MissingFileError
from tests.sdk.s3 import new_bucket, s3_server


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
def test_m45_references_in_an_s3(s3: dict[str, Any], bucket: str, mode: Any) -> None:
    contents = [b"%d" % n * 100 for n in range(20)] + [b"x" * (9 << 20)]
    urls = [put(s3, f"{bucket}/{n}.bin", content) for n, content in enumerate(contents)]
    saved = Dataset.from_dict({"f": [*urls, None]}).save("files", column_types={"f": "file"})
    assert saved.to_arrow()["f"].to_pylist()[0]["url"] == urls[0]
    loaded = [row["f"] for row in saved.load_files(mode)]
    if mode == "path":
        assert {Path(path).suffix for path in loaded if path} == {".bin"}
        loaded = [path and Path(path).read_bytes() for path in loaded]
    assert loaded == [*contents, None]


def test_m45_a_stale_copy_of_an_s3_is_used_while_it_is_the_same(
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


def test_m45_what_is_not_in_an_s3(bucket: str) -> None:
    files = Dataset.from_dict({"f": [f"{bucket}/gone.bin"]}).save("files", column_types={"f": "file"})
    with pytest.raises(MissingFileError, match=f"there is no file '{bucket}/gone.bin'"):
        list(files.load_files("bytes"))
    assert [row["f"] for row in files.load_files("bytes", on_error="null")] == [None]


def test_m45_files_of_an_s3_are_copied_into_the_store(s3: dict[str, Any], bucket: str) -> None:
    url = put(s3, f"{bucket}/a.bin", b"content")
    rows = Dataset.from_dict({"f": [url]}).save("files", column_types={"f": "file"}, copy_files=True)
    fsspec.filesystem("s3", **s3).rm(url)
    assert [row["f"] for row in rows.load_files("bytes")] == [b"content"]


@pytest.mark.parametrize("pattern", ["rows-1.csv", "rows-*.csv"])
def test_m16_rows_of_files_in_an_s3(s3: dict[str, Any], bucket: str, pattern: str) -> None:
    for n in (1, 2):
        put(s3, f"{bucket}/rows-{n}.csv", b"x\n%d\n" % n)
    expected = [1] if "*" not in pattern else [1, 2]
    assert Dataset.from_file(f"{bucket}/{pattern}").to_arrow()["x"].to_pylist() == expected


def test_m16_a_bucket_that_is_not_there(bucket: str) -> None:
    with pytest.raises(FileError, match=r"rows\.csv"):
        Dataset.from_file("s3://no-such-bucket-at-all/rows.csv").to_arrow()
