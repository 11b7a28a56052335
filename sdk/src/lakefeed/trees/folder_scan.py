"""The files of local folders, as they are to be added to a tree."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from lakefeed import _paths
from lakefeed.errors import FileError, InvalidArgumentError, MissingFileError, RefusedTargetError
from lakefeed.storage.cache.file_fingerprints import status_fingerprint
from lakefeed.storage.urls import expand_home
from lakefeed.trees.tree_paths import path_problem

logger = logging.getLogger(__name__)

Symlinks: TypeAlias = Literal["follow", "error"]
"""Symbolic links are followed. With "error", links that lead out of the folder are errors."""

OWNER_EXECUTES = 0o100
ANYBODY_READS = 0o444


class LocalFile(NamedTuple):
    """A local file.

    Attributes:
        path: the absolute path.
        size: the size in bytes.
        executable: whether the owner may execute it.
        fingerprint: identifies the file in its current state.
    """

    path: str
    size: int
    executable: bool
    fingerprint: bytes


def local_path_of(value: Any, argument: str) -> Path:
    """Returns an absolute local path, of text or an object with a path.

    Raises:
        InvalidArgumentError: it is neither, or it is empty.
    """
    if not isinstance(value, str | os.PathLike) or isinstance(value, bytes):
        raise InvalidArgumentError(f"{argument} must be the path of a file or folder, got {value!r:.80}")
    text = os.fspath(value)
    if not isinstance(text, str) or not _paths.is_storable(text):
        raise InvalidArgumentError(f"{argument} must be the path of a file or folder, got {value!r:.80}")
    return Path(os.path.abspath(expand_home(text)))  # noqa: PTH100 - resolve() would replace links


def scan(
    path: Path,
    matches: Callable[[str], bool],
    base: Path,
    symlinks: Symlinks,
    recursive: bool = True,
    left_out: Iterable[Path] = (),
) -> dict[str, LocalFile]:
    """Returns the files of a folder, or one file, by their paths relative to ``base``.

    Args:
        path: the folder or file.
        matches: says whether a relative path is wanted.
        base: a folder that contains ``path``.
        symlinks: see `Symlinks`.
        recursive: include the files in folders below ``path``.
        left_out: folders below ``path`` that are left out.

    Raises:
        MissingFileError: the path does not exist.
        FileError: a wanted file is not a regular file, cannot be read, or is a link to nothing.
        RefusedTargetError: a link leads out of the folder, and ``symlinks`` is "error".
        InvalidArgumentError: a wanted name cannot be in a tree.
    """
    try:
        is_folder = stat.S_ISDIR(os.stat(path).st_mode)  # noqa: PTH116 - as below
        if not is_folder:
            relative = os.path.relpath(path, base)
            return {_checked(relative, str(path)): _local_file(str(path))} if matches(relative) else {}
    except FileError:
        raise
    except OSError as error:
        raise _read_error(str(path), error) from error
    inside = os.path.relpath(path, base)
    prefix = "" if inside == "." else f"{inside}/"
    root = os.path.realpath(path) if symlinks == "error" else None
    return {
        _checked(relative, found): _local_file(found, root)
        for relative, found in sorted(_walk(str(path), prefix, root, recursive, left_out))
        if matches(relative)
    }


def _walk(
    folder: str, prefix: str, root: str | None, recursive: bool, left_out: Iterable[Path]
) -> Iterator[tuple[str, str]]:
    """Yields relative and absolute paths of all but folders. Follows links, but not to a folder around them."""
    skipped = {_identity(os.stat(each)) for each in left_out if each.is_dir()}  # noqa: PTH116
    waiting = [(folder, prefix, frozenset([_identity(os.stat(folder))]))]  # noqa: PTH116
    while waiting:
        current, above, ancestors = waiting.pop()
        try:
            with os.scandir(current) as entries:
                listed = list(entries)
        except OSError as error:
            raise _read_error(current, error) from error
        for entry in listed:
            if not _is_folder(entry):
                yield above + entry.name, entry.path
                continue
            if not recursive:
                continue
            if entry.is_symlink():
                _check_inside(entry.path, root)
            identity = _identity(os.stat(entry.path))  # noqa: PTH116
            if identity in skipped:
                logger.warning("leaving out %r, which is the lake itself or its cache", entry.path)
            elif identity in ancestors:
                logger.warning("not following the link %r to a folder around it", entry.path)
            else:
                waiting.append((entry.path, f"{above}{entry.name}/", ancestors | {identity}))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links, which is an error if it is wanted
        return False


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _local_file(path: str, root: str | None = None) -> LocalFile:
    """Returns a file.

    Raises:
        MissingFileError: it vanished, or is a link to nothing.
        FileError: it is not a regular file, or cannot be read.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - creating a Path costs more than the call
        if root is not None and stat.S_ISLNK(os.lstat(path).st_mode):
            _check_inside(path, root)
    except FileError:
        raise
    except OSError as error:
        raise _read_error(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise FileError(f"{path!r} is {_kind(status.st_mode)}, not a regular file; remove it or leave it out")
    # Usually anybody may read it, so that the permissions need not be asked for.
    if status.st_mode & ANYBODY_READS != ANYBODY_READS and not os.access(path, os.R_OK):
        raise FileError(f"{path!r} cannot be read: permission denied")
    return LocalFile(path, status.st_size, bool(status.st_mode & OWNER_EXECUTES), status_fingerprint(status))


def current_file(path: str) -> LocalFile:
    """Returns a file as it is now; see `scan` for the errors."""
    return _local_file(path)


def _check_inside(path: str, root: str | None) -> None:
    target = os.path.realpath(path)
    if root is not None and target != root and not target.startswith(f"{root}/"):
        raise RefusedTargetError(f"the link {path!r} leads out of the folder {root!r}, to {target!r}")


def _checked(relative: str, path: str) -> str:
    problem = path_problem(relative)
    if problem is not None:
        raise InvalidArgumentError(f"the file '{_shown(path)}' cannot be in a tree: its path {problem}; rename it")
    return relative


def _shown(path: str) -> str:
    """Returns a path for a message, in one line."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _read_error(path: str, error: OSError) -> FileError:
    shown = _shown(path)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        target = f", a link to {os.readlink(path)!r}" if os.path.islink(path) else ""  # noqa: PTH114, PTH115
        return MissingFileError(f"there is no file or folder '{shown}'{target}")
    return FileError(f"'{shown}' cannot be read: {error.strerror or error}")
