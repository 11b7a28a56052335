"""Questions about paths of this machine that also answer for paths that cannot exist.

The methods of ``pathlib.Path`` raise errors of the system for a part that is too long, and for links in a circle.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

AnyPath = str | os.PathLike[str]

IMPOSSIBLE_ERRNO: Final = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR})
"""Nothing can be at a path: a part is too long, its links lead in a circle, or a part before the last is a file."""


def is_storable(text: str) -> bool:
    """Returns whether text can be a path: not if it is empty, or has a NUL or half of a surrogate pair.

    Names whose bytes are not UTF-8 (``os.fsdecode``) can be paths.

    Example:
        >>> is_storable("a/b.csv"), is_storable("a" + chr(0)), is_storable(chr(0xD800))
        (True, False, False)
    """
    try:
        return bool(text) and "\0" not in text and bool(os.fsencode(text))
    except UnicodeEncodeError:
        return False


def exists(path: AnyPath) -> bool:
    """Returns whether there is a file or folder at a path. Follows links."""
    return os.path.exists(path)  # noqa: PTH110 - see above


def is_folder(path: AnyPath) -> bool:
    """Returns whether there is a folder at a path. Follows links."""
    return os.path.isdir(path)  # noqa: PTH112 - see above


def is_file(path: AnyPath) -> bool:
    """Returns whether there is a regular file at a path. Follows links."""
    return os.path.isfile(path)  # noqa: PTH113 - see above


def resolve(path: AnyPath) -> Path:
    """Returns an absolute path without links, as far as they can be followed."""
    try:
        return Path(os.path.realpath(path))
    except ValueError:  # not storable
        return Path(os.path.abspath(path))  # noqa: PTH100 - the same as above


def explain_missing(path: AnyPath) -> str:
    """Returns the reason why nothing can be at a path, for the end of a message; empty if something could be.

    Example:
        >>> explain_missing("x" * 300)
        ': File name too long'
        >>> explain_missing("no/such/folder")
        ''
    """
    try:
        os.stat(path)  # noqa: PTH116 - see above
    except OSError as error:
        return f": {os.strerror(error.errno)}" if error.errno in IMPOSSIBLE_ERRNO else ""
    except ValueError as error:
        return f": {error}"
    return ""
