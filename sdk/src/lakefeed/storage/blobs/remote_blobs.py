"""Stand-alone blobs in an object store of fsspec, for all stores that are not ``file://``."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, ClassVar, cast

from lakefeed.errors import (
    AccessDeniedError,
    ConfigError,
    FileError,
    LakefeedError,
    MissingDependencyError,
    UnreachableError,
)
from lakefeed.storage.blobs.objects import RemoteObjects, blob_key
from lakefeed.storage.blobs.step_hooks import StepHook, ignore_step, trust_all
from lakefeed.storage.disk.hashing import CHUNK_BYTES, sha256_stream
from lakefeed.storage.remote.credentials import access_advice, causes
from lakefeed.storage.remote.multipart import discard_upload
from lakefeed.storage.remote.outages import is_outage
from lakefeed.storage.urls import scheme


@dataclass(frozen=True)
class RemoteBlobs:
    """Objects ``<url>/sha256/ab/cdef…``. The store must show only complete objects, as S3, GCS and Azure do."""

    url: str
    options: Mapping[str, Any] = field(repr=False)

    cheap_lookups: ClassVar[bool] = False

    @property
    def objects(self) -> RemoteObjects:
        """The other objects of the store."""
        return RemoteObjects(self)

    def key(self, sha256: str) -> str:
        return blob_key(sha256)

    def _url(self, sha256: str) -> str:
        return self.objects.url(blob_key(sha256))

    def size(self, sha256: str) -> int | None:
        try:
            with self.store_errors():
                return int(self.filesystem().info(self._url(sha256))["size"])
        except FileNotFoundError:
            return None

    def open(self, sha256: str) -> BinaryIO:
        with self.store_errors():
            return cast(BinaryIO, self.filesystem().open(self._url(sha256), "rb"))

    def put(
        self, source: BinaryIO, writing: StepHook = ignore_step, distrusted: Callable[[str], bool] = trust_all
    ) -> tuple[str, int]:
        """Stores the rest of ``source`` (seekable). Reads it once for the digest, and again only if it is new."""
        start = source.tell()
        digest, size = sha256_stream(source)
        if self.size(digest) != size or distrusted(digest):
            source.seek(start)
            writing(digest)
            with self.store_errors():
                self._upload(source, digest, size)
        return digest, size

    def sync(self, digests: Iterable[str]) -> None:
        """Does nothing, because an object store acknowledges only durable objects."""

    def _upload(self, source: BinaryIO, expected: str, size: int) -> None:
        if size < CHUNK_BYTES:
            copy = io.BytesIO()
            _check_same_digest(expected, sha256_stream(source, into=copy.write)[0])
            self.filesystem().pipe_file(self._url(expected), copy.getvalue())
            return
        target = self.filesystem().open(self._url(expected), "wb", autocommit=False)
        try:
            digest, _ = sha256_stream(source, into=target.write)
            _check_same_digest(expected, digest)
            target.close()
            target.commit()
        except BaseException:
            discard_upload(target)
            raise

    @contextmanager
    def store_errors(self) -> Iterator[None]:
        """Raises errors of the store's library, which have no common base class, as errors of lakefeed."""
        try:
            yield
        except LakefeedError:
            raise
        except Exception as error:
            advice = access_advice(self.url, list(causes(error)), "blobs.options")
            if advice is not None:
                raise AccessDeniedError(f"the blob store {self.url!r}: {advice}") from error
            if isinstance(error, OSError) and not is_outage(error):
                raise
            raise UnreachableError(f"the blob store {self.url!r} cannot be reached: {error}") from error

    def is_empty(self) -> bool:
        """Returns whether the store has no entries, as a store has whose bucket is missing."""
        with self.store_errors():
            filesystem = self.filesystem()
            filesystem.invalidate_cache()
            try:
                return not filesystem.ls(self.url, detail=False)
            except FileNotFoundError:
                return True

    def filesystem(self) -> Any:
        # Not kept: fsspec has instances per process, so that a forked worker gets its own.
        import fsspec

        protocol = scheme(self.url)
        try:
            return fsspec.filesystem(protocol, **self.options)
        except ImportError as error:
            extra = " (pip install 'lakefeed[s3]')" if protocol in {"s3", "s3a"} else ""
            raise MissingDependencyError(
                f"blobs at {self.url!r} need a library that is not installed{extra}: {error}"
            ) from error
        except ValueError as error:
            raise ConfigError(f"cannot store blobs at {self.url!r}: {error}") from error


def _check_same_digest(expected: str, actual: str) -> None:
    if actual != expected:
        raise FileError(f"a file changed while it was uploaded (its SHA-256 {expected} became {actual}). Save again")
