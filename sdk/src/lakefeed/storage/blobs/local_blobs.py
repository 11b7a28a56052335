"""Stand-alone blobs in a local directory, for ``file://`` stores."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

from lakefeed.storage.blobs.objects import LocalObjects, blob_key
from lakefeed.storage.blobs.step_hooks import StepHook, ignore_step, trust_all
from lakefeed.storage.disk.atomic_write import publish, staged_file, sync_directories, sync_file
from lakefeed.storage.disk.hashing import CHUNK_BYTES, sha256_bytes, sha256_stream


@dataclass(frozen=True)
class LocalBlobs:
    """Complete files ``<root>/sha256/ab/cdef…``. Temporary files lie in ``<root>/tmp``."""

    root: Path
    cheap_lookups: ClassVar[bool] = True

    @property
    def objects(self) -> LocalObjects:
        """The other objects of the store."""
        return LocalObjects(self.root)

    def key(self, sha256: str) -> str:
        return blob_key(sha256)

    def path(self, sha256: str) -> Path:
        return self.root / blob_key(sha256)

    def size(self, sha256: str) -> int | None:
        try:
            return self.path(sha256).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def open(self, sha256: str) -> BinaryIO:
        return self.path(sha256).open("rb")

    def put(
        self, source: BinaryIO, writing: StepHook = ignore_step, distrusted: Callable[[str], bool] = trust_all
    ) -> tuple[str, int]:
        """Stores the rest of ``source`` (seekable). The name survives a power cut only after ``sync``.

        A blob of less than one chunk is hashed first, so that a known one is not written.
        """
        start, head = source.tell(), source.read(CHUNK_BYTES)
        if len(head) == CHUNK_BYTES:
            source.seek(start)
            return self._write(source, writing, distrusted)
        digest = sha256_bytes(head)
        if self._holds(digest, len(head)) and not distrusted(digest):
            return digest, len(head)
        return self._write(io.BytesIO(head), writing, distrusted)

    def is_empty(self) -> bool:
        """Returns whether the store has no entries, as a store has whose disk is not mounted."""
        try:
            return all(entry.name == "tmp" for entry in self.root.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return True

    def sync(self, digests: Iterable[str]) -> None:
        """Makes blobs durable, also known ones, whose writer may not have synced them yet."""
        shards = {self.path(digest).parent for digest in digests}
        if shards:
            sync_directories([*sorted(shards), self.root / "sha256", self.root, self.root.parent])

    def _holds(self, sha256: str, size: int) -> bool:
        return self.size(sha256) == size  # one cut short by a failing disk is written again

    def _write(self, source: BinaryIO, writing: StepHook, distrusted: Callable[[str], bool]) -> tuple[str, int]:
        with staged_file(self.root / "tmp") as (temporary, stream):
            digest, size = sha256_stream(source, into=stream.write)
            if not self._holds(digest, size) or distrusted(digest):
                sync_file(stream)
                writing(digest)
                publish(temporary, self.path(digest))
            return digest, size
