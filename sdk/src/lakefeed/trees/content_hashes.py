"""The SHA-256 of local files. Files that have not changed since they were last read are not read again."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from lakefeed.errors import FileError
from lakefeed.media.media_type import HEAD_BYTES
from lakefeed.storage.cache.file_fingerprints import (
    FileFingerprints,
    FingerprintRow,
    fingerprint_row,
    status_fingerprint,
)
from lakefeed.storage.disk.hashing import sha256_stream
from lakefeed.trees.folder_scan import LocalFile

THREADS: Final = 4


def hash_files(files: Sequence[LocalFile], fingerprints: FileFingerprints) -> list[bytes]:
    """Returns the raw SHA-256 of files.

    Raises:
        FileError: a file cannot be read.
    """
    known = fingerprints.find([(file.path, file.fingerprint) for file in files])
    unread = [index for index, content in enumerate(known) if content is None]
    hashes = [b"" if content is None else content[0] for content in known]
    if not unread:
        return hashes
    rows: list[FingerprintRow] = []
    with ThreadPoolExecutor(THREADS, thread_name_prefix="lakefeed-files") as threads:
        for index, (digest, row) in zip(unread, threads.map(_hash, [files[i].path for i in unread]), strict=True):
            hashes[index] = digest
            if row is not None:
                rows.append(row)
    fingerprints.add(rows)
    return hashes


def _hash(path: str) -> tuple[bytes, FingerprintRow | None]:
    try:
        with open(path, "rb", buffering=0) as stream:  # noqa: PTH123 - creating a Path costs more than the call
            read_ns, before = time.time_ns(), os.fstat(stream.fileno())
            head = stream.read(HEAD_BYTES) or b""
            stream.seek(0)
            digest = bytes.fromhex(sha256_stream(stream)[0])
            unchanged = status_fingerprint(before) == status_fingerprint(os.fstat(stream.fileno()))
    except OSError as error:
        raise FileError(f"{path!r} cannot be read: {error.strerror or error}") from error
    return digest, fingerprint_row(path, before, read_ns, digest, head) if unchanged else None
