"""The results of calls of a file tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self


class AddedFiles(int):
    """The number of files that were added.

    Attributes:
        added: the number of files of new paths. It is the value itself.
        modified: the number of files whose content or executable bit differs from that of their path before.
        unchanged: the number of the other files.

    Example:
        >>> AddedFiles.of(2, 1, 5) + 1
        3
    """

    added: int
    modified: int
    unchanged: int

    @classmethod
    def of(cls, added: int, modified: int, unchanged: int) -> Self:
        """Returns the counts."""
        counts = cls(added)
        counts.added, counts.modified, counts.unchanged = added, modified, unchanged
        return counts


class _Pair(NamedTuple):
    removed: int
    changed: int


class Synced(_Pair):
    """The pair of the numbers of files that were removed, and that were modified or added.

    Attributes:
        added: the number of files of new paths.
        modified: the number of files whose content or executable bit changed.

    Example:
        >>> counts = Synced.of(removed=1, added=2, modified=3)
        >>> removed, changed = counts
        >>> removed, changed, counts.added
        (1, 5, 2)
    """

    added: int
    modified: int

    @classmethod
    def of(cls, removed: int, added: int, modified: int) -> Self:
        """Returns the counts."""
        counts = cls(removed, added + modified)
        counts.added, counts.modified = added, modified
        return counts


@dataclass(frozen=True)
class FileEntry:
    """A file of a tree.

    Attributes:
        relative_path: the path in the tree.
        hash: the SHA-256 of the content; None until a file that was added is uploaded.
        parent_dataset_id: the id of the version that brought this content; None before `FileTree.finalize`.
        size: the size in bytes.
        executable: whether the owner may execute the file.
        link: the URL of an external file; None for a file in the store.
    """

    relative_path: str
    hash: str | None
    parent_dataset_id: str | None
    size: int | None
    executable: bool = False
    link: str | None = None
