"""Names that mark a file as not delivered: hidden files, unfinished copies, and what systems leave in folders."""

from __future__ import annotations

import re
from functools import lru_cache

IGNORED_PREFIXES = (".", "_", "~$")
"""The beginnings of hidden names, of names that writers use until a file is complete, and of locks of Office files."""

IGNORED_SUFFIXES = (
    ".!qb", ".!ut", ".aria2", ".bc!", "._copying_", ".copying", ".crdownload", ".download", ".filepart", ".incomplete",
    ".inprogress", ".opdownload", ".part", ".partial", ".swo", ".swp", ".swx", ".temp", ".tmp", ".uploading",
    ".writing", "~",
)  # fmt: skip
"""The ends of names of unfinished copies, downloads and uploads, and of backups and swap files of editors."""

IGNORED_NAMES = (
    "#recycle", "#snapshot", "$recycle.bin", "@eadir", "@recently-snapshot", "@recycle", "desktop.ini", "ehthumbs.db",
    "icon\r", "lost+found", "network trash folder", "recycler", "system volume information", "temporary items",
    "thumbs.db",
)  # fmt: skip
"""Names of files and folders that operating systems and network drives make themselves, in lower case."""

FOLDER_MARK = "_$folder$"
"""The end of the names of empty objects that stand for folders in object stores."""

FREQUENT_ENDINGS = frozenset(
    {".arrow", ".bin", ".csv", ".flac", ".gz", ".jpeg", ".jpg", ".json", ".jsonl", ".mp3", ".mp4", ".ndjson", ".npy",
     ".parquet", ".png", ".tar", ".tif", ".tiff", ".txt", ".wav", ".webp", ".xml", ".zip", ".zst"}
)  # fmt: skip
"""Endings of names that only their beginning can mark as no delivery."""

_ENDINGS = frozenset(suffix for suffix in IGNORED_SUFFIXES if suffix[0] == ".")
_NAMES = frozenset(IGNORED_NAMES)
_SAFE_SAVE = re.compile(r".*\.sb-[0-9a-f]+-[0-9a-z]+", re.IGNORECASE | re.DOTALL)
"""The folder in which macOS writes a file until it is complete."""


def is_ignored_name(name: str) -> bool:
    """Returns whether the name of a file or folder marks it, and all below it, as no delivery.

    Example:
        >>> names = ["a.csv", ".a.csv", "a.csv.part", "a.csv~", "@eaDir", "Thumbs.db"]
        >>> [name for name in names if is_ignored_name(name)]
        ['.a.csv', 'a.csv.part', 'a.csv~', '@eaDir', 'Thumbs.db']
    """
    # Fast, because this is called for every file of a folder in every look.
    if name[name.rfind(".") :] in FREQUENT_ENDINGS:
        return name.startswith(IGNORED_PREFIXES)
    lower = name.lower()
    if lower.startswith(IGNORED_PREFIXES) or lower[-1:] == "~" or lower in _NAMES:
        return True
    if lower[lower.rfind(".") :] in _ENDINGS:
        return True
    if lower.endswith(FOLDER_MARK):
        return True
    is_automatic_save = len(lower) > 1 and lower[0] == lower[-1] == "#"  # of Emacs
    return is_automatic_save or (".sb-" in lower and _SAFE_SAVE.fullmatch(lower) is not None)


@lru_cache(256)
def names_ignored(segment: str) -> bool:
    """Returns whether a segment of a pattern asks for names that are ignored otherwise, such as ``*.part``."""
    return segment != "**" and is_ignored_name(segment)
