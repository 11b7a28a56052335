from __future__ import annotations

import io
from pathlib import Path

import pytest

from lakefeed.errors import ConfigError, FileError
from lakefeed.storage import BlobStore
from lakefeed.storage.hashing import CHUNK_BYTES


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


def test_an_unknown_kind_of_store(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nosuch"):
        BlobStore("nosuch://place", tmp_path).put_bytes(b"x")
