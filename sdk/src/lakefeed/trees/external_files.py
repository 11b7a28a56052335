"""External files: links to files of web servers and object stores, with the size and the tag that they had."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from lakefeed._validate import check_text
from lakefeed.errors import (
    ChangedFileError,
    CredentialsError,
    FileError,
    IntegrityError,
    InvalidArgumentError,
    MissingFileError,
    RefusedTargetError,
)
from lakefeed.storage.disk.file_identity import Identities, Identity
from lakefeed.storage.disk.hashing import sha256_stream
from lakefeed.storage.remote.retrying_file import (
    OBJECT_STORES,
    WEB_PROTOCOLS,
    consistent_file,
    identity_at,
    query_filesystem,
)
from lakefeed.storage.urls import display_url, holds_credentials, scheme
from lakefeed.trees.tree_paths import check_path

SCHEMES: Final = frozenset({*WEB_PROTOCOLS, *OBJECT_STORES, "memory"})
_MODIFIED: Final = "modified "


class ExternalFile(NamedTuple):
    """A file elsewhere.

    Attributes:
        url: the URL.
        size: the size in bytes; None if the server does not tell it.
        etag: the tag or the time that tells this state of the file from others; None if there is none.
    """

    url: str
    size: int | None
    etag: str | None

    @property
    def executable(self) -> bool:
        """False: servers do not tell it."""
        return False

    @property
    def _identity(self) -> Identity:
        if self.etag is not None and self.etag.startswith(_MODIFIED):
            return Identity(self.size, None, self.etag.removeprefix(_MODIFIED))
        return Identity(self.size, self.etag)

    def copy_to(self, write: Callable[[bytes], object]) -> int:
        """Passes the bytes of the file to ``write``, and returns their number.

        Raises:
            IntegrityError: the file has changed since it was added. The bytes that were passed are not to be used.
            MissingFileError, FileError: it cannot be read.
            RefusedTargetError: the URL is of another kind, such as of a file of this machine.
        """
        check_scheme(self.url)
        try:
            with consistent_file(self.url, states=Identities({self.url: self._identity})) as stream:
                _, size = sha256_stream(stream, into=write)
        except ChangedFileError as error:
            raise self._changed_error(str(error)) from error
        if self.size is not None and size != self.size:
            raise self._changed_error(f"it has {size:,} bytes, not {self.size:,}")
        return size

    def _changed_error(self, reason: str) -> IntegrityError:
        return IntegrityError(f"{display_url(self.url)} has changed since it was added to the tree: {reason}")


def check_scheme(url: str) -> str:
    """Returns the URL of an external file.

    Raises:
        RefusedTargetError: it is of another kind, such as of a file of this machine.
    """
    if scheme(url) not in SCHEMES:
        raise RefusedTargetError(
            f"{display_url(url)}: external files are those of http://, https://, s3:// and gs://; add local ones with "
            "add_files"
        )
    return url


def external_of(url: str) -> ExternalFile:
    """Returns a file as it is now.

    Raises:
        MissingFileError, FileError: it cannot be read.
    """
    identity = identity_at(url)
    _, mark = identity.stamp
    etag = None if mark is None else mark if identity.tag is not None else f"{_MODIFIED}{mark}"
    return ExternalFile(url, identity.size, None if etag is None else str(etag))


def list_external(
    source: Any, matches: Callable[[str], bool], recursive: bool, strict: bool
) -> tuple[dict[str, ExternalFile], list[FileError]]:
    """Returns external files by their paths below a URL, and the errors of those that cannot be read.

    Args:
        source: a URL, or several ones. That of a folder of an object store means the files in it.
        matches: says whether a path is wanted.
        recursive: include the files in folders below.
        strict: raise the first error.

    Raises:
        CredentialsError: a URL holds credentials, which all readers of the tree would see.
        MissingFileError, FileError: a file cannot be read, and ``strict`` is True.
        InvalidArgumentError: this is not a URL, or a name cannot be in a tree.
    """
    urls = [source] if isinstance(source, str) else source
    if not isinstance(urls, list | tuple) or not urls:
        raise InvalidArgumentError(f"source_url must be a URL or a list of URLs, got {source!r:.80}")
    by_path: dict[str, ExternalFile] = {}
    errors: list[FileError] = []
    for url in urls:
        check_scheme(check_text(url, "source_url"))
        if holds_credentials(url):
            raise CredentialsError(
                f"source_url: {display_url(url)} holds credentials, and all readers of the tree see its URLs"
            )
        try:
            for path, each in _files_at(url, recursive):
                if matches(path):
                    by_path[check_path(path, "add_external_files")] = external_of(each)
        except FileError as error:
            if strict:
                raise
            errors.append(error)
    return by_path, errors


def _files_at(url: str, recursive: bool) -> Iterator[tuple[str, str]]:
    """Yields paths and URLs of the files at a URL."""
    if scheme(url) in WEB_PROTOCOLS:
        name = unquote(url.partition("?")[0].partition("#")[0].rstrip("/").rpartition("/")[2])
        yield name, url
        return
    depth = None if recursive else 1
    files, root = query_filesystem(url, lambda fs, path: (_find(fs, path, depth), path.rstrip("/")))
    if not files:
        raise MissingFileError(f"there are no files at {display_url(url)}")
    for name in sorted(files):
        below = name.removeprefix(f"{root}/")
        yield (below, f"{url.rstrip('/')}/{below}") if below != name else (name.rpartition("/")[2], url)


def _find(fs: Any, path: str, depth: int | None) -> list[str]:
    if fs.isfile(path):
        return [path]
    return [name for name, info in fs.find(path, maxdepth=depth, detail=True).items() if info.get("type") == "file"]
