"""Files open for reading, through compressions and archives; an archive is gone through once for all its members."""

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
from lakefeed.errors import FormatError, InvalidArgumentError, LakefeedError, MissingFileError, quoted_list
from lakefeed.storage.archives.compressions import DECOMPRESSORS
from lakefeed.storage.archives.tars import tarred
from lakefeed.storage.archives.url_chains import Link, leads_out, parse_chain
from lakefeed.storage.disk.disk_errors import scratch_file
from lakefeed.storage.disk.file_identity import Identities
from lakefeed.storage.remote.retrying_file import confirm, steady
from lakefeed.storage.urls import shown

COPY_BYTES = MIB
BROKEN_ARCHIVE = (
    zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError, gzip.BadGzipFile, lzma.LZMAError, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class Stream:
    """A file that is open: ``url`` leads to it alone; ``file`` is read once, from front to back."""

    url: str
    file: Any


def streams(url: str, states: Identities | None = None) -> Generator[Stream]:
    """The files that a URL leads to, one after the other; those of an archive in the order in which it has them.

    Each is open until the next one is asked for. ``states``: the states in which files have to be.

    Raises:
        ChangedFileError: the file at the base of the URL is in another state, or changed while it was read.
        MissingFileError: there is none.
        FormatError: an archive is broken, or the name of a member leads out of it.
        FileError: the bytes cannot be had.
    """
    chain = parse_chain(url)
    with steady(chain.base, states=states) as file, _confirmed(file):
        if chain.compression is None or chain.links:
            yield from _through(chain.links, file, chain.base)
        else:
            with closing(DECOMPRESSORS[chain.compression](file)) as plain:
                yield Stream(url, plain)


@contextmanager
def opened_stream(url: str, states: Identities | None = None) -> Iterator[Any]:
    """The (first) file that a URL leads to."""
    with closing(streams(url, states)) as found:
        yield next(found).file


def _through(links: tuple[Link, ...], file: Any, url: str) -> Iterator[Stream]:
    if not links:
        yield Stream(url, file)
        return
    link, *deeper = links
    if link.kind in DECOMPRESSORS:
        with closing(DECOMPRESSORS[link.kind](file)) as plain:
            yield from _through(tuple(deeper), plain, f"{link}::{url}")
        return
    for name, member in _members(link, file, url):
        inner = f"{link.kind}://{name}::{url}"
        compression = None if deeper else parse_chain(inner).compression
        if compression is None:
            yield from _through(tuple(deeper), member, inner)
        else:
            with closing(DECOMPRESSORS[compression](member)) as plain:
                yield Stream(inner, plain)


def _members(link: Link, file: Any, url: str) -> Iterator[tuple[str, Any]]:
    """The members that a link asks for, each open until the next one."""
    seen, found = [], 0
    with _sound(link.kind, url):
        for member_name, opener in _zipped(file) if link.kind == "zip" else tarred(file, url):
            name = member_name.removeprefix("./")
            seen.append(name)
            if not link.matches(name):
                continue
            if leads_out(name):
                raise FormatError(
                    f"the archive {shown(url)} has a member {name!r}, which leads out of it; it is not read"
                )
            found += 1
            with closing(opener()) as member:
                yield name, member
            if not link.many:
                return
    if not found:
        raise MissingFileError(_none_of(link, url, seen))


def _none_of(link: Link, url: str, seen: list[str]) -> str:
    near = get_close_matches(link.path, seen, n=3)
    hint = f" Did you mean {quoted_list(near)}?" if near else ""
    what = "no member matches" if link.many else "there is no member"
    return f"{what} {link.path!r} in the archive {shown(url)}; it has {quoted_list(seen)}.{hint}"


@contextmanager
def _confirmed(file: Any) -> Iterator[None]:
    """Says that a file changed, or could not be read, where that is why its content makes no sense."""
    try:
        yield
    except FormatError:
        confirm(file)
        raise


@contextmanager
def _sound(kind: str, url: str) -> Iterator[None]:
    """Errors of a broken archive as ours."""
    try:
        yield
    except LakefeedError:
        raise
    except BROKEN_ARCHIVE as error:
        raise FormatError(f"{shown(url)} cannot be read as a {kind} archive: {error}") from error
    except OSError as error:  # so Arrow's decompressors speak
        if type(error) is not OSError or error.errno is not None:
            raise
        raise FormatError(f"{shown(url)} cannot be read as a {kind} archive: {error}") from error
    except RuntimeError as error:  # so zipfile says that a password is needed
        raise FormatError(f"{shown(url)} cannot be read: {error}") from error


def _zipped(file: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    with _seekable(file) as whole, zipfile.ZipFile(whole) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                yield info.filename, partial(archive.open, info)


@contextmanager
def _seekable(file: Any) -> Iterator[Any]:
    """The file, or a nameless local copy of one that can only be read from front to back."""
    try:
        seekable = file.seekable()
    except AttributeError:  # so a member of a tar that is streamed
        seekable = False
    if seekable:
        yield file
        return
    with spooled(file) as copy:
        yield copy


@contextmanager
def spooled(file: Any) -> Iterator[Any]:
    """A nameless local copy of what is left of a file."""
    with scratch_file() as copy:
        shutil.copyfileobj(file, copy, COPY_BYTES)
        copy.seek(0)
        yield copy


def check_url(url: str) -> None:
    """Raises InvalidArgumentError where a URL cannot lead to files."""
    if not parse_chain(url).base:
        raise InvalidArgumentError(f"{shown(url)} ends in '::' and so leads nowhere")
