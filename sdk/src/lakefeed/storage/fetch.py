"""Bytes of files that a column refers to by URL or path instead of holding them in the blob store."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import BinaryIO, cast

import fsspec

from lakefeed.errors import FileError, MissingFileError, UnsupportedError, listed
from lakefeed.storage.urls import local_path, scheme

# Closed on purpose: fsspec also opens archives, chained and code-like URLs, which a table must not choose.
FETCHED_SCHEMES = ("file", "memory")


def open_reference(text: str) -> BinaryIO:
    """The open file that a path or URL refers to.

    Raises:
        MissingFileError: it is not there.
        UnsupportedError: this version cannot fetch URLs of that scheme.
        FileError: it cannot be opened.

    Example:
        >>> open_reference("https://host/cat.jpg")
        Traceback (most recent call last):
        lakefeed.errors.UnsupportedError: cannot fetch 'https://host/cat.jpg': this version reads 'file', 'memory' and \
local paths. Download the file and save its path instead
    """
    path = local_path(text)
    try:
        return _open_local(path) if path is not None else _open_remote(text)
    except FileError:
        raise
    except FileNotFoundError as error:
        where = f" (looked in {Path.cwd()})" if path is not None and not path.is_absolute() else ""
        raise MissingFileError(f"there is no file {shown(text)}{where}") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise FileError(f"cannot open {shown(text)}: {error}") from error


def shown(text: str, most: int = 200) -> str:
    """``text`` quoted, and cut if it is long: a column may hold anything."""
    return repr(text if len(text) <= most else text[: most - 1] + "…")


def _open_local(path: Path) -> BinaryIO:
    # Looked at first: to open a pipe waits for ever, to read a device never ends.
    if not stat.S_ISREG(path.stat().st_mode):
        raise FileError(f"{shown(str(path))} is no regular file")
    return path.open("rb")


def _open_remote(text: str) -> BinaryIO:
    protocol = scheme(text)
    if protocol not in FETCHED_SCHEMES:
        raise UnsupportedError(
            f"cannot fetch {shown(text)}: this version reads {listed(FETCHED_SCHEMES)} and local paths. "
            "Download the file and save its path instead"
        )
    return cast(BinaryIO, fsspec.filesystem(protocol).open(text, "rb"))
