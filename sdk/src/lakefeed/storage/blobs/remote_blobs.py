"""Blobs in an object store that fsspec speaks: the backend of every store that is not ``file://``."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
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
from lakefeed.storage.blobs.steps import StepHook, ignore_step
from lakefeed.storage.disk.hashing import CHUNK_BYTES, sha256_stream
from lakefeed.storage.remote.credentials import access_advice, causes
from lakefeed.storage.remote.multipart import discard_upload
from lakefeed.storage.remote.outages import is_outage
from lakefeed.storage.urls import scheme


@dataclass(frozen=True)
class RemoteBlobs:
    """``<url>/sha256/ab/cdef…``. The store must show an object only when it is whole, as S3, GCS and Azure do."""

    url: str
    options: Mapping[str, Any] = field(repr=False)

    cheap_lookups: ClassVar[bool] = False

    @property
    def objects(self) -> RemoteObjects:
        """What else is in the store."""
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

    def put(self, source: BinaryIO, writing: StepHook = ignore_step) -> tuple[str, int]:
        """Store what is left in ``source`` (seekable): read once for its name, and again only if it is new."""
        start = source.tell()
        digest, size = sha256_stream(source)
        if self.size(digest) != size:
            source.seek(start)
            writing(digest)
            with self.store_errors():
                self._upload(source, digest, size)
        return digest, size

    def sync(self, digests: Iterable[str]) -> None:
        """Nothing is left to do: an object store acknowledges what is durable."""

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
        """What the library of the store raises for a host that is down has no base class of ours or of Python's."""
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
            raise UnreachableError(f"the blob store {self.url!r} does not answer as it should: {error}") from error

    def is_empty(self) -> bool:
        """Whether nothing is in the store, not even a folder; so it is where the bucket is not there."""
        with self.store_errors():
            filesystem = self.filesystem()
            filesystem.invalidate_cache()
            try:
                return not filesystem.ls(self.url, detail=False)
            except FileNotFoundError:
                return True

    def filesystem(self) -> Any:
        # Asked for each time: fsspec keeps instances per process, so a forked worker gets its own.
        import fsspec

        protocol = scheme(self.url)
        try:
            return fsspec.filesystem(protocol, **self.options)
        except ImportError as error:
            extra = " (pip install 'lakefeed[s3]')" if protocol in {"s3", "s3a"} else ""
            raise MissingDependencyError(f"blobs at {self.url!r} need another library{extra}: {error}") from error
        except ValueError as error:
            raise ConfigError(f"blobs cannot live at {self.url!r}: {error}") from error


def _check_same_digest(expected: str, found: str) -> None:
    if found != expected:
        raise FileError(f"a file changed while it was uploaded (sha256 {expected} became {found}); save again")
