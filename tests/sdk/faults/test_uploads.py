"""Object stores that refuse a part of an upload: no parts, and no objects, are left of a write that failed."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.errors import FileError, StorageError
from lakefeed.storage.blobs.blob_store import BlobStore
from tests.sdk.s3 import new_bucket, s3_server

pytestmark = pytest.mark.live
MIB = 1 << 20
CLIENTS = ["pyiceberg.io.pyarrow.PyArrowFileIO", "pyiceberg.io.fsspec.FsspecFileIO"]


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, Any]]:
    with s3_server() as options:
        yield options


@pytest.fixture
def refuse_parts() -> Iterator[pytest.MonkeyPatch]:
    """A store that takes the first part of an upload and no other, until it is undone."""
    from moto.s3.exceptions import S3ClientError
    from moto.s3.models import S3Backend

    upload = S3Backend.upload_part

    def refusing(self: S3Backend, bucket: str, upload_id: str, part: int, *more: Any, **others: Any) -> Any:
        if part > 1:
            raise S3ClientError("QuotaExceeded", "no room for more")
        return upload(self, bucket, upload_id, part, *more, **others)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(S3Backend, "upload_part", refusing)
        yield patched


def contents(options: dict[str, Any], bucket: str) -> tuple[set[str], list[str]]:
    """The objects and the unfinished uploads of a bucket."""
    system = fsspec.filesystem("s3", **options)
    system.invalidate_cache()
    uploads = system.call_s3("list_multipart_uploads", Bucket=bucket).get("Uploads") or []
    return set(system.find(bucket)), [upload["Key"] for upload in uploads]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_refused_part_leaves_no_upload(
    server: dict[str, Any], refuse_parts: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    bucket = f"lake-{CLIENTS.index(client)}"
    url = new_bucket(server, bucket)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server["client_kwargs"]["endpoint_url"],
        "LAKEFEED__CATALOG__WAREHOUSE": f"{url}/warehouse",
        "LAKEFEED__CATALOG__PROPERTIES": f'{{"py-io-impl": "{client}"}}',
        "LAKEFEED__WRITE__ROW_GROUP_BYTES": str(8 * MIB),
    }.items():
        monkeypatch.setenv(name, value)
    parts = 8 if client.endswith("FsspecFileIO") else 4  # its parts are of 50 MiB
    large = Dataset.from_dict({"b": [os.urandom(8 * MIB) for _ in range(parts)]})
    Dataset.from_dict({"b": [b"x"]}).save("t")
    before, _ = contents(server, bucket)
    with pytest.raises(StorageError, match=f"cannot write '{url}/warehouse/.*parquet': .*no room for more"):
        large.append_to("t")
    assert contents(server, bucket) == (before, [])

    def interrupt(row: dict[str, Any]) -> dict[str, Any]:
        if len(row["b"]) == 1:
            raise KeyboardInterrupt
        return row

    refuse_parts.undo()
    rows = Dataset.from_dict({"b": [os.urandom(8 * MIB), os.urandom(8 * MIB), b"x"]})
    with pytest.raises(KeyboardInterrupt):
        rows.map(interrupt, schema=pa.schema([("b", pa.binary())])).append_to("t")
    assert contents(server, bucket) == (before, [])
    large.append_to("t")
    assert Dataset("t").count() == parts + 1


def test_a_blob_that_cannot_be_stored_leaves_no_upload(
    server: dict[str, Any], refuse_parts: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = BlobStore(new_bucket(server, "blobs"), tmp_path / "cache", {**server, "default_block_size": 5 * MIB})
    data = os.urandom(12 * MIB)
    with pytest.raises(FileError, match="no room for more"):
        store.put_bytes(data)
    assert contents(server, "blobs") == (set(), [])
    refuse_parts.undo()

    class Interrupted(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1) -> bytes:
            Interrupted.reads += 1
            if Interrupted.reads == 18:  # once for the name, then in the middle of the upload
                raise KeyboardInterrupt
            return super().read(size)

    with pytest.raises(KeyboardInterrupt):
        store.put(Interrupted(data))
    assert contents(server, "blobs") == (set(), [])

    class Changing(io.BytesIO):
        def seek(self, place: int, whence: int = 0) -> int:
            self.getbuffer()[:4] = b"else"
            return super().seek(place, whence)

    with pytest.raises(FileError, match="changed while it was uploaded"):
        store.put(Changing(data))
    assert contents(server, "blobs") == (set(), [])
    assert store.read(store.put_bytes(data).sha256) == data
