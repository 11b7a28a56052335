"""Members of tar archives, streamed. A truncated or damaged archive raises an error."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, Self

from lakefeed._units import MIB
from lakefeed.errors import MissingFileError
from lakefeed.storage.archives.compressions import DECOMPRESSORS, detect_compression
from lakefeed.storage.urls import display_url

MAGIC_BYTES = 10
"""The number of first bytes that show how an archive is compressed."""

DRAIN_BYTES = MIB

# Errors of headers that cannot be read. typeshed lacks them.
_TRUNCATED: Any = (tarfile.EmptyHeaderError, tarfile.TruncatedHeaderError)  # type: ignore[attr-defined]  # see above
_DAMAGED: Any = tarfile.InvalidHeaderError  # type: ignore[attr-defined]  # see above


def tar_members(file: Any, url: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yields the name of each file in a tar archive, and a function that opens it until the next name is yielded.

    The archive may be compressed in any of the known ways. The function raises MissingFileError for a link.

    Raises:
        tarfile.TarError: the archive is truncated or damaged, or is not an archive.
    """
    with _decompress(file) as plain:
        with tarfile.open(fileobj=plain, mode="r|", tarinfo=_Header) as archive:
            for info in archive:
                if info.isreg():
                    yield info.name, partial(archive.extractfile, info)
                elif info.islnk() or info.issym():
                    yield info.name, partial(_refuse_link, info, url)
                archive.members = []  # type: ignore[attr-defined]  # else the archive keeps a record of each
        # The checksum of a compressed file is compared only at its end.
        while plain.read(DRAIN_BYTES):
            pass


class _Header(tarfile.TarInfo):
    """The header of a member. `tarfile` takes one that it cannot read for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except _TRUNCATED as error:
            if archive.offset == 0:
                raise
            raise tarfile.ReadError(
                f"it ends at byte {archive.offset} without the end marker of an archive, so it was cut"
            ) from error
        except _DAMAGED as error:
            if archive.offset == 0:
                raise
            raise tarfile.ReadError(f"the header at byte {archive.offset} is damaged ({error})") from error


@contextmanager
def _decompress(file: Any) -> Iterator[Any]:
    """Yields the plain archive.

    `tarfile` would read only the first stream of a compressed file and ignore its checksum.
    """
    first = file.read(MAGIC_BYTES)
    whole = io.BufferedReader(_PrependedFile(first, file))
    compression = detect_compression(first)
    if compression is None:
        yield whole
        return
    with closing(DECOMPRESSORS[compression](whole)) as plain:
        yield plain


class _PrependedFile(io.RawIOBase):
    """A file after bytes that were read from it already."""

    def __init__(self, first: bytes, file: Any) -> None:
        self._first = first
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._first or self._file.read(len(buffer))
        count = min(len(piece), len(buffer))
        buffer[:count] = piece[:count]
        self._first = piece[count:] if self._first else b""
        return count


def _refuse_link(info: tarfile.TarInfo, url: str) -> Any:
    raise MissingFileError(
        f"the member {info.name!r} of the archive {display_url(url)} is a link to {info.linkname!r}, not a file; "
        "links are not followed. Pack the files themselves: tar --dereference --hard-dereference"
    )
