"""The content-addressed blob store: equal contents are stored once, under their SHA-256."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO

from lakefeed._units import KIB
from lakefeed.errors import FileError, IntegrityError, InvalidArgumentError, MissingFileError, UnreachableError
from lakefeed.storage.blobs.blob_writer import Blob, BlobWriter, Packing
from lakefeed.storage.blobs.leases import begin_lease, require_active
from lakefeed.storage.blobs.local_blobs import LocalBlobs
from lakefeed.storage.blobs.packed_blobs import PackedBlobs, SingleBlobs
from lakefeed.storage.blobs.remote_blobs import RemoteBlobs
from lakefeed.storage.blobs.step_hooks import StepHook, ignore_step
from lakefeed.storage.cache.blob_cache import BlobCache, require_digest
from lakefeed.storage.disk.disk_errors import wrap_os_errors
from lakefeed.storage.disk.hashing import check_digest, sha256_bytes, sha256_stream
from lakefeed.storage.urls import LOCAL_SCHEMES, local_path, scheme

BUFFER_BYTES = 64 * KIB  # of a stream; less than a chunk, so that a short read is one


@dataclass(frozen=True)
class BlobStore:
    """Blobs at ``url`` (a local path or a URL of fsspec), with verified local copies under ``cache_dir``.

    Nothing is read, written or connected to before the first call. Picklable; safe between threads, processes and
    forks.

    Attributes:
        url: the URL of the store.
        cache_dir: the folder of the local copies.
        options: options for fsspec, passed on unchanged.
        packing: the sizes of packs and of their contents.
        lake: identifies the lake of the store, so that other lakes do not delete its blobs as garbage.

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
        """Stores the contents of a file, unless they are stored already. Reads the file in chunks.

        Args:
            path: the path of the file.
            sync: make the blob durable. For many files, it is faster to call ``sync`` once at the end.

        Returns:
            The blob.

        Raises:
            MissingFileError: the file does not exist.
            FileError: the file cannot be read or stored.
        """
        with _open_file(Path(path)) as stream:
            return self.put(stream, sync=sync)

    def put_bytes(self, data: bytes, *, sync: bool = True) -> Blob:
        """Stores bytes as ``put_file`` does."""
        return self.put(io.BytesIO(data), sync=sync)

    def put(self, source: BinaryIO, *, sync: bool = True) -> Blob:
        """Stores the rest of an open, seekable stream as ``put_file`` does."""
        with wrap_os_errors(f"cannot write to the blob store {self.url!r}"):
            blob = Blob(*self.backend.put(source))
            if sync:
                self.backend.sync([blob.sha256])
        return blob

    def open_writer(self, at: StepHook = ignore_step) -> BlobWriter:
        """Returns a context manager that stores many contents, small ones in packs, and excludes the garbage collector.

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
        """Holds a lease while files, such as those of tables, are written beside the store.

        The lease is written only if the block takes longer than a minute, because collectors skip files that are
        younger.

        Yields:
            A function to call right before the commit. It raises FileError if a collector may consider this process
                dead.
        """
        sign = begin_lease(self.backend.objects, immediately=False)
        try:
            yield partial(require_active, sign)
        finally:
            sign.end()

    def sync(self, digests: Iterable[str]) -> None:
        """Makes blobs durable that were stored with ``sync=False``."""
        with wrap_os_errors(f"cannot write to the blob store {self.url!r}"):
            self.backend.sync(digests)

    def has(self, sha256: str) -> bool:
        """Returns whether the store has a blob. The bytes are verified when they are read."""
        return self.backend.size(check_digest(sha256)) is not None

    def require_reachable(self) -> None:
        """Checks that the store is available, so that a blob that cannot be found is really missing.

        Raises:
            UnreachableError: the store does not answer, or is empty: it is not mounted, or the bucket is another one.
        """
        with wrap_os_errors(f"cannot access the blob store {self.url!r}"):
            if self.backend.single_blobs.is_empty():
                raise UnreachableError(f"the blob store {self.url!r} is empty or missing: is it mounted?")

    def find_unsound(self, digests: Iterable[str]) -> set[str]:
        """Returns those blobs that reads on this machine have shown to be lost or damaged, and that still are."""
        with wrap_os_errors(f"cannot read from the blob store {self.url!r}"):
            return self.backend.find_unsound(digests)

    def locate(self, sha256: str) -> str:
        """Returns the URL of a blob as far as it is known here, with a byte range if the blob lies in a pack."""
        return self.backend.locate(check_digest(sha256))

    def prefetch(self, digests: Iterable[str]) -> None:
        """Looks up blobs together that will be read soon."""
        with suppress(InvalidArgumentError):  # the read of an invalid digest raises
            self.backend.prefetch([check_digest(sha256) for sha256 in digests])

    def read(self, sha256: str, suffix: str = "") -> bytes:
        """Returns the verified bytes of a blob. Uses and keeps a copy in the cache if the store is remote.

        Args:
            sha256: the digest of the blob.
            suffix: the extension of the copy.

        Raises:
            MissingFileError: the store has no such blob.
            IntegrityError: the blob in the store is damaged.
        """
        if not self.is_local:
            return self._read_cached(check_digest(sha256), suffix)
        try:
            return self._read_stored(check_digest(sha256))
        except MissingFileError:
            if self._cache.find(sha256, suffix) is None:
                raise
            return self._read_cached(sha256, suffix)  # the store has lost the blob, the cache has not

    def copy_to(self, sha256: str, write: Callable[[bytes], object]) -> int:
        """Passes the bytes of a blob to ``write``, in parts, and returns their number. Keeps no copy in the cache.

        Raises:
            MissingFileError: the store has no such blob.
            IntegrityError: the blob in the store is damaged. The bytes that were passed are not to be used.
        """
        with self._open(check_digest(sha256)) as stream:
            digest, size = sha256_stream(stream, into=write)
        if digest != sha256:
            self._require_other_copy(sha256)
            require_digest(sha256, digest, self.locate(sha256))
        return size

    def open(self, sha256: str, suffix: str = "") -> BinaryIO:
        """Returns a seekable stream of the verified bytes of a blob.

        Of a blob that is stored in chunks, only those chunks are read that the caller reads, unless the cache has a
        copy of the whole. The cache keeps chunks of remote stores. Of other blobs, this is a local copy.

        Args:
            sha256: the digest of the blob.
            suffix: the extension of the copy.

        Raises:
            MissingFileError: the store has no such blob. Reads raise it if a chunk is missing.
            IntegrityError: the blob in the store is damaged. Reads raise it if a chunk is damaged.
        """
        with self._caching():
            copy = self._cache.find(check_digest(sha256), suffix)
        if copy is None:
            with self._reading(sha256):
                stream = self.backend.open_chunks(sha256, None if self.is_local else self._cache)
            if stream is not None:
                return io.BufferedReader(stream, BUFFER_BYTES)
        return (copy or self.local_path(sha256, suffix)).open("rb")

    def read_range(self, sha256: str, start: int, stop: int) -> bytes:
        """Returns the verified bytes of a blob from ``start`` to before ``stop``; fewer if the blob ends earlier.

        Raises:
            MissingFileError: the store has no such blob.
            IntegrityError: the blob in the store is damaged.
            InvalidArgumentError: ``start`` is negative, or ``stop`` is less than ``start``.

        Example:
            >>> from pathlib import Path
            >>> store = BlobStore("blobs", Path("cache"))
            >>> store.read_range(store.put_bytes(b"abcdef").sha256, 1, 3)
            b'bc'
        """
        if start < 0 or stop < start:
            raise InvalidArgumentError(f"start and stop must be positions in ascending order, got {start!r}, {stop!r}")
        with self.open(sha256) as stream:
            stream.seek(start)
            return stream.read(stop - start)

    def local_path(self, sha256: str, suffix: str = "") -> Path:
        """Returns the path of a read-only local copy of a blob with the extension ``suffix`` (such as ``".png"``).

        Local stores are copied from too, so that programs that write to the path cannot damage the store. A copy that
        was
        changed is removed and created again.

        Raises:
            MissingFileError: the store has no such blob.
            IntegrityError: the blob in the store is damaged.
        """
        with self._caching():
            return self._cache.find(check_digest(sha256), suffix) or self._fill(sha256, suffix)

    def cached_bytes(self, data: bytes, suffix: str = "") -> Path:
        """Returns the path of a copy, as ``local_path`` does, of bytes that are not a blob of the store."""
        digest = sha256_bytes(data)
        with self._caching():
            copy = self._cache.find(digest, suffix)
            return copy or self._cache.fill(digest, suffix, io.BytesIO(data), f"{len(data)} bytes")

    def _read_cached(self, sha256: str, suffix: str) -> bytes:
        copy = self._cache.read(sha256, suffix)
        if copy is not None and sha256_bytes(copy) == sha256:
            return copy
        data = self._read_stored(sha256)
        self._cache.add(data, suffix, sha256)  # if there is space
        return data

    def _read_stored(self, sha256: str) -> bytes:
        """Returns the verified bytes of a blob in the store, of another copy if one is damaged."""
        with self._open(sha256) as stream:
            data = stream.read()
        if sha256_bytes(data) != sha256:
            self._require_other_copy(sha256)
            with self._open(sha256) as stream:
                data = stream.read()
            require_digest(sha256, sha256_bytes(data), self.locate(sha256))
        return data

    def _require_other_copy(self, sha256: str) -> None:
        """Records which copies of a blob are damaged.

        Raises:
            IntegrityError: all are. The message locates the blob, or its damaged chunk.
        """
        with self._reading(sha256):
            has_other = self.backend.check_copies(sha256)
        if not has_other:
            raise IntegrityError(
                f"{self.locate(sha256)} holds other bytes than were saved: its SHA-256 is not {sha256}. A save of the "
                "same content stores it anew"
            )

    def _fill(self, sha256: str, suffix: str) -> Path:
        try:
            return self._fill_once(sha256, suffix)
        except IntegrityError:
            self._require_other_copy(sha256)
            return self._fill_once(sha256, suffix)

    def _fill_once(self, sha256: str, suffix: str) -> Path:
        with self._open(sha256) as stream, self._caching():
            return self._cache.fill(sha256, suffix, stream, self.locate(sha256))

    @contextmanager
    def _open(self, sha256: str) -> Iterator[BinaryIO]:
        with self._reading(sha256), self.backend.open(sha256) as stream:
            yield stream

    @contextmanager
    def _reading(self, sha256: str) -> Iterator[None]:
        """Raises errors of the system as those of the store."""
        try:
            yield
        except FileError:
            raise
        except (FileNotFoundError, NotADirectoryError):
            self.backend.index.mark_lost(sha256)
            raise MissingFileError(f"the blob store {self.url!r} has no blob with sha256 {sha256}") from None
        except OSError as error:
            raise FileError(f"cannot read from the blob store {self.url!r}: {error}") from error

    def _caching(self) -> AbstractContextManager[None]:
        return wrap_os_errors(f"cannot keep a file in the cache {str(self.cache_dir)!r}")

    @property
    def is_local(self) -> bool:
        """True if the blobs are on this machine."""
        return scheme(self.url) in LOCAL_SCHEMES

    @cached_property
    def _cache(self) -> BlobCache:
        return BlobCache(self.cache_dir)

    @cached_property
    def backend(self) -> PackedBlobs:
        """The stand-alone blobs and the packs of the store."""
        if "::" in self.url:
            raise InvalidArgumentError(f"{self.url!r} chains file systems; give a single URL")
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
