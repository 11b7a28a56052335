"""Writable copies of trees, at a path that the user chooses."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from lakefeed import _paths
from lakefeed.errors import InvalidArgumentError
from lakefeed.storage.disk.disk_errors import wrap_os_errors
from lakefeed.storage.disk.path_exchange import exchange
from lakefeed.storage.disk.scratch import scratch_folder
from lakefeed.trees.local_copies import LocalCopy

SCRATCH = ".lakefeed-copy-"
WRITABLE = 0o644
WRITABLE_AND_EXECUTABLE = 0o755


def copy_to(copy: LocalCopy, target: Path, overwrite: bool) -> Path:
    """Makes a writable copy of a tree, which appears whole, and returns its path.

    Args:
        copy: the read-only copy. It is made if it is missing.
        target: the folder.
        overwrite: removes a folder that is there, after the copy is complete.

    Raises:
        InvalidArgumentError: the target is not an empty folder, and ``overwrite`` is False; or it contains the lake.
        FileError: the tree cannot be copied. The target is as it was.
    """
    folder = Path(os.path.realpath(target))
    with wrap_os_errors(f"cannot copy the tree to {str(folder)!r}"):
        _check_target(copy, folder, overwrite)
    source = copy.get()
    with wrap_os_errors(f"cannot copy the tree to {str(folder)!r}"):
        # A volume, or a folder in one that belongs to somebody else, cannot be replaced.
        within = _paths.is_folder(folder) and (os.path.ismount(folder) or not os.access(folder.parent, os.W_OK))
        with scratch_folder(folder if within else folder.parent, SCRATCH) as scratch:
            new = scratch / "new"
            new.mkdir()
            _copy_files(copy, source, new)
            if within:
                _refill(new, folder, overwrite)
            else:
                _put(new, folder, overwrite)
    return folder


def _check_target(copy: LocalCopy, folder: Path, overwrite: bool) -> None:
    settings = copy.tree.lake.settings
    inner = [Path(os.path.realpath(each)) for each in (settings.home, settings.cache, copy.root)]
    if folder.parent == folder or any(each == folder or each.is_relative_to(folder) for each in inner):
        raise InvalidArgumentError(
            f"target_folder={str(folder)!r} contains the lake or its cache; choose another folder"
        )
    if any(folder.is_relative_to(each) for each in inner[1:]):
        raise InvalidArgumentError(f"target_folder={str(folder)!r} is in the cache of the lake; choose another folder")
    if _paths.exists(folder) and not _paths.is_folder(folder):
        raise InvalidArgumentError(f"target_folder={str(folder)!r} is a file; choose another path")
    if not overwrite and _paths.is_folder(folder) and _entries(folder):
        raise _not_empty_error(folder)


def _entries(folder: Path) -> list[Path]:
    """Returns what is in a folder, without what this or a killed process has put there for a copy."""
    return [entry for entry in folder.iterdir() if not entry.name.startswith(SCRATCH)]


def _not_empty_error(folder: Path) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"target_folder={str(folder)!r} is not empty; choose another folder, or pass overwrite=True to replace it"
    )


def _copy_files(copy: LocalCopy, source: Path, new: Path) -> None:
    for name in sorted({file.path.rpartition("/")[0] for file in copy.files}):
        (new / name).mkdir(parents=True, exist_ok=True)
    for file in copy.files:
        target = f"{new}/{file.path}"
        shutil.copyfile(f"{source}/{file.path}", target, follow_symlinks=False)
        os.chmod(target, WRITABLE_AND_EXECUTABLE if file.executable else WRITABLE)  # noqa: PTH101 - as above


def _put(new: Path, folder: Path, overwrite: bool) -> None:
    try:
        new.rename(folder)  # replaces an empty folder
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if not overwrite:
            raise _not_empty_error(folder) from None
    if exchange(new, folder):
        return  # what was there goes with the scratch folder
    old = new.with_name("old")
    folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        old.rename(folder)
        raise


def _refill(new: Path, folder: Path, overwrite: bool) -> None:
    """Moves a copy into a folder, in whose scratch folder it is. What was there goes with the scratch folder."""
    old = new.with_name("old")
    old.mkdir()
    before = _entries(folder)
    if before and not overwrite:
        raise _not_empty_error(folder)
    for entry in before:
        entry.rename(old / entry.name)
    for entry in list(new.iterdir()):
        entry.rename(folder / entry.name)
