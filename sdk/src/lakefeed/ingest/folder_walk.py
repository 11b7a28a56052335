"""The files of a local folder. A look costs little more than the calls of the system that it takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from lakefeed.errors import FileError
from lakefeed.ingest.path_patterns import PathPattern, States

Status: TypeAlias = tuple[str, int, int, str]
"""A file as `ListedFile`, which costs more to make: path, size in bytes, time of modification in nanoseconds, stamp."""


def walk_folder(folder: Path, pattern: PathPattern, report: Callable[[str, OSError], object]) -> Iterator[Status]:
    """Yields the files of a folder that match a pattern, in no order. A folder that does not exist is empty.

    A file that vanishes meanwhile is left out. Names that are not UTF-8 have surrogates.

    Args:
        folder: the folder. Its own name is never a pattern.
        pattern: the pattern of the relative paths.
        report: called with the relative path of a folder below that cannot be listed, and the error.

    Raises:
        FileError: the folder itself cannot be listed.
    """
    waiting: list[tuple[str, States]] = [("", pattern.start)]
    while waiting:
        prefix, states = waiting.pop()
        try:
            entries = os.scandir(f"{folder}/{prefix}")
        except FileNotFoundError:
            continue
        except OSError as error:
            if not prefix:
                raise FileError(f"the folder {str(folder)!r} cannot be listed: {error.strerror}") from error
            report(prefix, error)
            continue
        is_match = pattern.name_test(states)
        with entries:
            for entry in entries:
                name = entry.name
                try:
                    if entry.is_dir():
                        inside = pattern.enter(states, name, is_link=entry.is_symlink())
                        if inside:
                            waiting.append((f"{prefix}{name}/", inside))
                    elif is_match(name) and entry.is_file():
                        status = entry.stat()
                        yield prefix + name, status.st_size, status.st_mtime_ns, ""
                except FileNotFoundError:  # it vanished, or is a link to nothing
                    continue
                except OSError as error:
                    report(prefix + name, error)


def is_utf8(name: str) -> bool:
    """Returns whether a name that the system gave is UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable_name(name: str) -> str:
    r"""Returns a name as text that can be stored, with escapes for the bytes that are not UTF-8.

    Example:
        >>> printable_name("caf\udce9.csv")
        'caf\\xe9.csv'
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")
