from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest

from lakefeed.errors import InvalidArgumentError
from lakefeed.storage.disk.hashing import CHUNK_BYTES, check_digest, sha256_file, sha256_stream


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 7])
def test_a_file_hashes_as_its_bytes(tmp_path: Path, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "f").write_bytes(data[:size])
    assert sha256_file(tmp_path / "f") == (hashlib.sha256(data[:size]).hexdigest(), size)


def test_what_is_hashed_is_what_is_passed_on() -> None:
    data, copy = b"x" * (CHUNK_BYTES + 3), io.BytesIO()
    digest, size = sha256_stream(io.BytesIO(data), into=copy.write)
    assert (digest, size, copy.getvalue()) == (hashlib.sha256(data).hexdigest(), len(data), data)


@pytest.mark.parametrize("text", ["", "abc", "A" * 64, "../" + "a" * 61, "a" * 63 + "\n", "g" * 64])
def test_what_is_no_digest_never_reaches_a_path(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="64 lower-case hex"):
        check_digest(text)
