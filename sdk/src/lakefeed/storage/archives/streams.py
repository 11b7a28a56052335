"""Files as streams, through compressions and archives. An archive is read once for all its members."""

from __future__ import annotations

import gzip
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any

from lakefeed._units import MIB
from lakefeed.errors import FormatError, LakefeedError, MissingFileError, quoted_list
from lakefeed.storage.archives.compressions import DECOMPRESSORS
from lakefeed.storage.archives.tars import tar_members
from lakefeed.storage.archives.url_chains import Link, escapes_archive, parse_chain
from lakefeed.storage.disk.disk_errors import scratch_file
from lakefeed.storage.disk.file_identity import Identities
from lakefeed.storage.remote.retrying_file import check_unchanged, consistent_file
from lakefeed.storage.urls import display_url

COPY_BYTES = MIB
ARCHIVE_ERRORS = (
    zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError, gzip.BadGzipFile, lzma.LZMAError, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class Stream:
    """An open file: ``url`` leads to this file alone; ``file`` can be read once, from front to back."""

    url: str
    file: Any


def open_streams(url: str, states: Identities | None = None) -> Generator[Stream]:
    """Yields the files that a URL leads to, those of an archive in their order in the archive.

    Each file is open until the next one is requested.

    Args:
        url: the URL, which may be a chain.
        states: the states that files must have.

    Raises:
        ChangedFileError: the file at the base of the URL is in another state, or changed while it was read.
        MissingFileError: the file does not exist.
        FormatError: an archive is damaged, or the name of a member leads out of the archive.
        FileError: the bytes cannot be read.
    """
    chain = parse_chain(url)
    with consistent_file(chain.base, states=states) as file, _check_changes(file):
        if chain.compression is None or chain.links:
            yield from _follow(chain.links, file, chain.base)
        else:
            with closing(DECOMPRESSORS[chain.compression](file)) as plain:
                yield Stream(url, plain)


@contextmanager
def open_stream(url: str, states: Identities | None = None) -> Iterator[Any]:
    """Yields the first file that a URL leads to."""
    with closing(open_streams(url, states)) as streams:
        yield next(streams).file


def _follow(links: tuple[Link, ...], file: Any, url: str) -> Iterator[Stream]:
    if not links:
        yield Stream(url, file)
        return
    link, *deeper = links
    if link.kind in DECOMPRESSORS:
        with closing(DECOMPRESSORS[link.kind](file)) as plain:
            yield from _follow(tuple(deeper), plain, f"{link}::{url}")
        return
    for name, member in _open_members(link, file, url):
        inner = f"{link.kind}://{name}::{url}"
        compression = None if deeper else parse_chain(inner).compression
        if compression is None:
            yield from _follow(tuple(deeper), member, inner)
        else:
            with closing(DECOMPRESSORS[compression](member)) as plain:
                yield Stream(inner, plain)


def _open_members(link: Link, file: Any, url: str) -> Iterator[tuple[str, Any]]:
    """Yields the members that a link leads to. Each is open until the next one is requested."""
    names, matches = [], 0
    with _archive_errors(link.kind, url):
        for member_name, opener in _zip_members(file) if link.kind == "zip" else tar_members(file, url):
            name = member_name.removeprefix("./")
            names.append(name)
            if not link.matches(name):
                continue
            if escapes_archive(name):
                raise FormatError(
                    f"the archive {display_url(url)} has a member {name!r}, which leads out of it; it is not read"
                )
            matches += 1
            with closing(opener()) as member:
                yield name, member
            if not link.is_pattern:
                return
    if not matches:
        raise MissingFileError(_no_member_message(link, url, names))


def _no_member_message(link: Link, url: str, names: list[str]) -> str:
    near = get_close_matches(link.path, names, n=3)
    hint = f" Did you mean {quoted_list(near)}?" if near else ""
    problem = "no member matches" if link.is_pattern else "there is no member"
    return f"{problem} {link.path!r} in the archive {display_url(url)}; it has {quoted_list(names)}.{hint}"


@contextmanager
def _check_changes(file: Any) -> Iterator[None]:
    """Raises the error of a changed or unreadable file in place of the FormatError that it caused."""
    try:
        yield
    except FormatError:
        check_unchanged(file)
        raise


@contextmanager
def _archive_errors(kind: str, url: str) -> Iterator[None]:
    """Raises errors of a damaged archive as FormatError."""
    try:
        yield
    except LakefeedError:
        raise
    except ARCHIVE_ERRORS as error:
        raise FormatError(f"{display_url(url)} cannot be read as a {kind} archive: {error}") from error
    except OSError as error:  # raised by Arrow's decompressors
        if type(error) is not OSError or error.errno is not None:
            raise
        raise FormatError(f"{display_url(url)} cannot be read as a {kind} archive: {error}") from error
    except RuntimeError as error:  # raised by zipfile if a password is needed
        raise FormatError(f"{display_url(url)} cannot be read: {error}") from error


def _zip_members(file: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    with _seekable(file) as whole, zipfile.ZipFile(whole) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                yield info.filename, partial(archive.open, info)


@contextmanager
def _seekable(file: Any) -> Iterator[Any]:
    """Yields the file, or a nameless local copy if the file is not seekable."""
    try:
        seekable = file.seekable()
    except AttributeError:  # a member of a streamed tar
        seekable = False
    if seekable:
        yield file
        return
    with spool(file) as copy:
        yield copy


@contextmanager
def spool(file: Any) -> Iterator[Any]:
    """Yields a nameless local copy of the rest of a file."""
    with scratch_file() as copy:
        shutil.copyfileobj(file, copy, COPY_BYTES)
        copy.seek(0)
        yield copy
