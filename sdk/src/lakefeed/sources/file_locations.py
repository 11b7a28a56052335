"""The files that paths, globs and URLs name. It is not a source."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from lakefeed.errors import InvalidArgumentError, MissingFileError
from lakefeed.storage.archives.url_chains import parse_chain
from lakefeed.storage.remote.retrying_file import WEB_PROTOCOLS, query_filesystem
from lakefeed.storage.urls import decode_file_url, display_url, expand_home, lower_scheme, split_protocol


def check_locations(locations: Any, method: str = "from_file") -> list[str]:
    """Returns paths, globs or URLs as a list of text.

    Raises:
        InvalidArgumentError: a location is not a path or text.
    """
    items = [locations] if isinstance(locations, str | os.PathLike) else locations
    if not isinstance(items, Sequence) or not all(isinstance(item, str | os.PathLike) for item in items):
        raise InvalidArgumentError(f"{method} takes a path or URL, or a list of them, got {locations!r:.80}")
    return [os.fspath(item) for item in items]


def expand_location(location: str, check_name: Callable[[str], object]) -> list[str]:
    """Returns the files that a location names.

    Args:
        location: a path, a glob, a URL, or a chain into an archive.
        check_name: raises an error for a name that is not of the kind that is asked for.

    Raises:
        MissingFileError: the file does not exist, or no file matches the glob.
        InvalidArgumentError: a chain has no base.
    """
    written = parse_chain(location).base
    inside = location.removesuffix(written)
    written = lower_scheme(written)
    protocol, _ = split_protocol(written)
    if not written:
        raise InvalidArgumentError(f"{display_url(location)} ends in '::'; add the path of the archive")
    if protocol in WEB_PROTOCOLS:
        check_name(location)
        return [inside + written]  # reading it shows whether it exists; a check would double the requests
    path = expand_home(written)
    decoded = decode_file_url(path)
    for base in [path] if decoded is None else [decoded, path]:
        if query_filesystem(base, lambda fs, path: fs.exists(path)):
            check_name(inside + base)
            return [inside + base]
        if glob.has_magic(base):
            with_protocol = split_protocol(base)[0] is not None
            matches = query_filesystem(base, partial(_glob_files, with_protocol=with_protocol))
            if matches:
                return [f"{inside}{name}" for name in matches]
    if glob.has_magic(decoded or path):
        raise MissingFileError(f"no file matches {display_url(location)}")
    check_name(location)
    raise MissingFileError(f"there is no file {display_url(path)}")


def _glob_files(fs: Any, pattern: str, with_protocol: bool) -> list[str]:
    names = [name for name in sorted(fs.glob(pattern)) if not fs.isdir(name)]
    return [fs.unstrip_protocol(name) for name in names] if with_protocol else names
