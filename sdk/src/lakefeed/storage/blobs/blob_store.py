"""The content-addressed store: a file is kept once, under the SHA-256 of its bytes."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO

from lakefeed.errors import FileError, InvalidArgumentError, MissingFileError, UnreachableError
from lakefeed.storage.blobs.blob_writer import Blob, BlobWriter, Packing
from lakefeed.storage.blobs.leases import begin_lease, require_active
from lakefeed.storage.blobs.local_blobs import LocalBlobs
from lakefeed.storage.blobs.packed_blobs import PackedBlobs, SingleBlobs
from lakefeed.storage.blobs.remote_blobs import RemoteBlobs
from lakefeed.storage.blobs.steps import StepHook, ignore_step
from lakefeed.storage.cache.blob_cache import BlobCache, require_digest
from lakefeed.storage.disk.disk_errors import wrap_os_errors
from lakefeed.storage.disk.hashing import check_digest, sha256_bytes
from lakefeed.storage.urls import LOCAL_SCHEMES, local_path, scheme


@dataclass(frozen=True)
class BlobStore:
    """Blobs at ``url`` (a local path, or any URL of fsspec), with verified local copies under ``cache_dir``.

    Cheap to make: nothing is read, written or connected to before the first call. Picklable, safe between threads,
    processes and forks. ``options`` go to fsspec as they are. ``lake`` says whose store
    it is, so that nobody else takes what is in it for garbage.

    Example:
        >>> from pathlib import Path
        >>> store = BlobStore("blobs", Path("cache"))
        >>> blob = store.put_bytes(b"abc")
        >>> store.has(blob.sha256), store.read(blob.sha256)
        (True, b'abc')
        >>> store.local_path(blob.sha256, ".txt").suffix
        '.txt'
    """

    url: str
    cache_dir: Path
    options: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    packing: Packing = field(default_factory=Packing)
    lake: str = field(default="", repr=False)

    def put_file(self, path: str | os.PathLike[str], *, sync: bool = True) -> Blob:
        """The name of the file's bytes, which are stored now if they were not; read in pieces.

        Durable on return, or with ``sync=False`` once ``sync`` has been called: for many files at once that is faster.

        Raises:
            MissingFileError: there is no such file.
            FileError: it cannot be read or stored.
        """
        with _open_file(Path(path)) as stream:
            return self.put(stream, sync=sync)

    def put_bytes(self, data: bytes, *, sync: bool = True) -> Blob:
        """As ``put_file``, for bytes in memory."""
        return self.put(io.BytesIO(data), sync=sync)

    def put(self, source: BinaryIO, *, sync: bool = True) -> Blob:
        """As ``put_file``, for what is left in an open, seekable stream."""
        with wrap_os_errors(f"cannot write to the blob store {self.url!r}"):
            blob = Blob(*self.backend.put(source))
            if sync:
                self.backend.sync([blob.sha256])
        return blob

    def open_writer(self, at: StepHook = ignore_step) -> BlobWriter:
        """A context in which many files are put at once: small ones in packs, safe from the collector of garbage.

        Example:
            >>> from pathlib import Path
            >>> with BlobStore("blobs", Path("cache")).open_writer() as writer:
            ...     blob = writer.put(b"abc")
            ...     writer.flush()
            >>> BlobStore("blobs", Path("cache")).read(blob.sha256)
            b'abc'
        """
        return BlobWriter(self.backend, self.url, self.lake, self.cache_dir, self.packing, at)

    @contextmanager
    def hold_lease(self) -> Iterator[Callable[[], None]]:
        """A context in which files are written beside the store, such as those of tables, that nothing names yet.

        A lease is written only if it takes longer than a minute: no collector takes files that are younger. Yields what
        to call right before the commit; it raises FileError where a collector may have taken this process for dead.
        """
        sign = begin_lease(self.backend.objects, immediately=False)
        try:
            yield partial(require_active, sign)
        finally:
            sign.end()

    def sync(self, digests: Iterable[str]) -> None:
        """Make blobs put with ``sync=False`` durable."""
        with wrap_os_errors(f"cannot write to the blob store {self.url!r}"):
            self.backend.sync(digests)

    def has(self, sha256: str) -> bool:
        """Whether the store holds the blob (its bytes are verified when they are read)."""
        return self.backend.size(check_digest(sha256)) is not None

    def require_reachable(self) -> None:
        """Passes where the store is there, so that a blob which is not found is really missing.

        Raises:
            UnreachableError: it does not answer, or is empty: not mounted, or another bucket.
        """
        with wrap_os_errors(f"the blob store {self.url!r} cannot be looked at"):
            if self.backend.single_blobs.is_empty():
                raise UnreachableError(f"the blob store {self.url!r} is empty or not there: is it mounted?")

    def locate(self, sha256: str) -> str:
        """The URL of the blob, as far as is known here; of one in a pack with the range of its bytes."""
        return self.backend.locate(check_digest(sha256))

    def prefetch(self, digests: Iterable[str]) -> None:
        """These are about to be read, which is faster when it is said."""
        with suppress(InvalidArgumentError):  # who reads what is no digest is told then
            self.backend.prefetch([check_digest(sha256) for sha256 in digests])

    def read(self, sha256: str, suffix: str = "") -> bytes:
        """The verified bytes of a blob; from the cache if it holds a copy with this suffix, and kept there if remote.

        Raises:
            MissingFileError: the store has no such blob.
            IntegrityError: the store's own copy is damaged.
        """
        if not self.is_local:
            return self._read_cached(check_digest(sha256), suffix)
        try:
            with self._open(check_digest(sha256)) as stream:
                data = stream.read()
        except MissingFileError:
            if self._cache.find(sha256, suffix) is None:
                raise
            return self._read_cached(sha256, suffix)  # the store is gone, what was kept is not
        self._verify(sha256, data)
        return data

    def local_path(self, sha256: str, suffix: str = "") -> Path:
        """A read-only local file with the bytes of a blob and the extension ``suffix`` (such as ``".png"``).

        It is a copy also where the store is local: no program that is handed the path can damage the store by
        writing to it. A copy that was tampered with is dropped and made again.

        Raises:
            MissingFileError: the store has no such blob.
            IntegrityError: the store's own copy is damaged.
        """
        with self._caching():
            return self._cache.find(check_digest(sha256), suffix) or self._fill(sha256, suffix)

    def cached_bytes(self, data: bytes, suffix: str = "") -> Path:
        """As ``local_path``, for bytes that are no blob of the store."""
        digest = sha256_bytes(data)
        with self._caching():
            found = self._cache.find(digest, suffix)
            return found or self._cache.fill(digest, suffix, io.BytesIO(data), f"{len(data)} bytes")

    def _read_cached(self, sha256: str, suffix: str) -> bytes:
        found = self._cache.read(sha256, suffix)
        if found is not None and sha256_bytes(found) == sha256:
            return found
        with self._open(sha256) as stream:
            data = stream.read()
        self._verify(sha256, data)
        self._cache.add(data, suffix, sha256)  # as far as there is room
        return data

    def _verify(self, sha256: str, data: bytes) -> None:
        """Raises IntegrityError where the bytes are not the blob's; to say where it lies takes another look."""
        found = sha256_bytes(data)
        if found != sha256:
            require_digest(sha256, found, self.locate(sha256))

    def _fill(self, sha256: str, suffix: str) -> Path:
        with self._open(sha256) as stream, self._caching():
            return self._cache.fill(sha256, suffix, stream, self.locate(sha256))

    @contextmanager
    def _open(self, sha256: str) -> Iterator[BinaryIO]:
        try:
            with self.backend.open(sha256) as stream:
                yield stream
        except FileError:
            raise
        except (FileNotFoundError, NotADirectoryError):
            raise MissingFileError(f"the blob store {self.url!r} has no blob with sha256 {sha256}") from None
        except OSError as error:
            raise FileError(f"cannot read from the blob store {self.url!r}: {error}") from error

    def _caching(self) -> AbstractContextManager[None]:
        return wrap_os_errors(f"cannot keep a file in the cache {str(self.cache_dir)!r}")

    @property
    def is_local(self) -> bool:
        """Whether the blobs are on this machine."""
        return scheme(self.url) in LOCAL_SCHEMES

    @cached_property
    def _cache(self) -> BlobCache:
        return BlobCache(self.cache_dir)

    @cached_property
    def backend(self) -> PackedBlobs:
        """What the store consists of."""
        if "::" in self.url:
            raise InvalidArgumentError(f"{self.url!r} chains file systems; give one URL")
        root = local_path(self.url)
        single_blobs: SingleBlobs = RemoteBlobs(self.url, self.options) if root is None else LocalBlobs(root.absolute())
        return PackedBlobs(single_blobs, self.cache_dir)

    def __getstate__(self) -> dict[str, Any]:
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


def _open_file(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise MissingFileError(f"there is no file {str(path)!r}") from None
    except OSError as error:
        raise FileError(f"cannot read {str(path)!r}: {error.strerror}") from error
