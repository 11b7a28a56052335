from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from lakefeed.errors import ConfigError, FileError
from lakefeed.storage import BlobStore
from lakefeed.storage.disk.hashing import CHUNK_BYTES, sha256_bytes


class Changing(io.BytesIO):
    """A file that somebody writes to between the two readings of an upload."""

    def seek(self, place: int, whence: int = 0) -> int:
        self.getbuffer()[0:1] = b"!"
        return super().seek(place, whence)


@pytest.mark.parametrize("size", [10, CHUNK_BYTES])
def test_a_file_that_changes_while_it_is_uploaded_is_not_stored(tmp_path: Path, size: int) -> None:
    store = BlobStore(f"memory://{tmp_path.name}", tmp_path / "cache")
    with pytest.raises(FileError, match="changed while it was uploaded"):
        store.put(Changing(b"x" * size))


class DownFileSystem(MemoryFileSystem):
    """A store whose library raises what is no OSError, as those of clouds do."""

    protocol = "downmemory"

    def info(self, path: str, **options: Any) -> Any:
        raise RuntimeError("no route to host")

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        raise RuntimeError("no route to host")


def test_a_store_that_is_down(tmp_path: Path) -> None:
    fsspec.register_implementation("downmemory", DownFileSystem, clobber=True)
    store = BlobStore("downmemory://bucket", tmp_path / "cache")
    digest = sha256_bytes(b"abc")
    for use in (lambda: store.put_bytes(b"abc"), lambda: store.read(digest), lambda: store.has(digest)):
        with pytest.raises(FileError, match="'downmemory://bucket' cannot be reached: no route to host"):
            use()


def test_an_unknown_kind_of_store(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nosuch"):
        BlobStore("nosuch://place", tmp_path).put_bytes(b"x")
