"""SHA-256 of files and streams, which are read in chunks to bound memory."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from mmap import mmap
from pathlib import Path
from typing import BinaryIO

from lakefeed._units import MIB
from lakefeed.errors import InvalidArgumentError

CHUNK_BYTES = MIB

_HEX = re.compile(r"[0-9a-f]{64}")


def sha256_bytes(data: bytes | mmap) -> str:
    """Returns the SHA-256 of ``data`` in lower-case hex.

    Example:
        >>> sha256_bytes(b"")[:8]
        'e3b0c442'
    """
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | os.PathLike[str]) -> tuple[str, int]:
    """Returns the SHA-256 (lower-case hex) and the size in bytes of a file.

    Raises:
        OSError: the file cannot be read.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("abc.txt").write_bytes(b"abc")
        >>> digest, size = sha256_file("abc.txt")
        >>> digest[:8], size
        ('ba7816bf', 3)
    """
    with Path(path).open("rb") as stream:
        return sha256_stream(stream)


def sha256_stream(stream: BinaryIO, into: Callable[[bytes], object] | None = None) -> tuple[str, int]:
    """Returns the SHA-256 and the size of the rest of ``stream``, and passes each chunk to ``into``.

    The digest is that of the bytes passed on, so it fits a copy even if the source changes meanwhile.

    Example:
        >>> import io
        >>> copy = io.BytesIO()
        >>> sha256_stream(io.BytesIO(b"abc"), into=copy.write)[1], copy.getvalue()
        (3, b'abc')
    """
    digest, size = hashlib.sha256(), 0
    while piece := stream.read(CHUNK_BYTES):
        digest.update(piece)
        size += len(piece)
        if into is not None:
            into(piece)
    return digest.hexdigest(), size


def is_digest(text: str) -> bool:
    """Returns whether ``text`` is a SHA-256 of 64 lower-case hex digits."""
    return _HEX.fullmatch(text) is not None


def check_digest(sha256: str) -> str:
    """Returns ``sha256``, which becomes part of paths, if it consists of 64 lower-case hex digits.

    Raises:
        InvalidArgumentError: it does not.

    Example:
        >>> check_digest("../../etc/passwd")
        Traceback (most recent call last):
        lakefeed.errors.InvalidArgumentError: '../../etc/passwd' is not a SHA-256: give 64 lower-case hex digits
    """
    if not is_digest(sha256):
        raise InvalidArgumentError(f"{sha256!r} is not a SHA-256: give 64 lower-case hex digits")
    return sha256
