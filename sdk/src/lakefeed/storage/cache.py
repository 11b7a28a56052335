"""Verified local copies of blobs, shared by all processes of a machine; may be deleted at any time."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lakefeed.errors import IntegrityError
from lakefeed.storage.atomic import aside, publish
from lakefeed.storage.hashing import sha256_file, sha256_stream

logger = logging.getLogger(__name__)

SEAL_EPOCH_NS = 978_307_200 * 10**9  # 2001-01-01: no file is written then by chance


@dataclass(frozen=True)
class BlobCache:
    """``<directory>/sha256/ab/cdef….png``: read-only files that keep the extension of what they are a copy of.

    A copy is hashed when it is made and then *sealed*: its time of modification says its size, so a later use costs
    one ``stat``. A copy that was cut short or written to since has lost its seal and is hashed again.
    """

    directory: Path

    def path(self, sha256: str, suffix: str = "") -> Path:
        return self.directory.joinpath("sha256", sha256[:2], f"{sha256[2:]}{suffix}")

    def find(self, sha256: str, suffix: str = "") -> Path | None:
        """The path of a good copy, or None; a bad one is dropped."""
        path = self.path(sha256, suffix)
        try:
            if not _sealed(path):
                self._reseal(path, sha256)
        except FileNotFoundError:
            return None
        except IntegrityError as error:
            logger.warning("dropped a cached copy: %s", error)
            self.drop(sha256, suffix)
            return None
        return path

    def fill(self, sha256: str, suffix: str, source: BinaryIO, origin: str) -> Path:
        """The path of a new copy of ``source``, which came from ``origin``.

        Raises:
            IntegrityError: the bytes are not those of ``sha256``; nothing is kept.
        """
        with aside(self.directory / "tmp") as (temporary, stream):
            found, size = sha256_stream(source, into=stream.write)
            require(sha256, found, origin)
            stream.flush()
            _seal(temporary, size)
            publish(temporary, self.path(sha256, suffix))
        return self.path(sha256, suffix)

    def drop(self, sha256: str, suffix: str = "") -> None:
        self.path(sha256, suffix).unlink(missing_ok=True)

    def _reseal(self, path: Path, sha256: str) -> None:
        found, size = sha256_file(path)
        require(sha256, found, str(path))
        with suppress(PermissionError):  # somebody else's file in a shared cache: good, only not ours to seal
            _seal(path, size)


def require(expected: str, found: str, origin: str) -> None:
    """Raises IntegrityError unless the two digests are one."""
    if found != expected:
        raise IntegrityError(f"{origin} holds other bytes than were saved: sha256 is {found}, recorded was {expected}")


def _sealed(path: Path) -> bool:
    status = path.stat()
    return status.st_mtime_ns == SEAL_EPOCH_NS + status.st_size


def _seal(path: Path, size: int) -> None:
    os.utime(path, ns=(path.stat().st_atime_ns, SEAL_EPOCH_NS + size))
