"""Local copies of trees: read-only folders in the cache, which appear whole and are checked at each use."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

from lakefeed.errors import FileError
from lakefeed.storage.disk.disk_errors import wrap_os_errors
from lakefeed.storage.disk.locks import named_lock
from lakefeed.storage.disk.scratch import scratch_folder
from lakefeed.trees import copy_eviction
from lakefeed.trees.copy_manifest import MANIFEST, TREE, CopiedFile, read_manifest, write_manifest
from lakefeed.trees.copy_selection import check_copied_paths, select_files
from lakefeed.trees.copy_state import inspect
from lakefeed.trees.finished_tree import FinishedTree
from lakefeed.trees.tree_identity import slug
from lakefeed.trees.tree_materialization import Materialization, copied_files, write_links

logger = logging.getLogger(__name__)

FOLDER: Final = "trees"
SIBLINGS: Final = 4
"""The number of other copies of a dataset, the last used ones, whose files are linked."""
MAX_COPIES: Final = 1_000
_LINKS: Final = re.compile(r"-[0-9a-f]{12}-links(-\d+)?$")


@dataclass(frozen=True)
class LocalCopy:
    """A copy of a tree, or of some of its files.

    Attributes:
        tree: the tree.
        part: the number of the part; None for all files.
        num_parts: the number of parts.
        patterns: the patterns of the files; none for all files.
        workers: the number of threads.
        soft_links: makes symbolic links to the files of the copy without this.
    """

    tree: FinishedTree
    part: int | None = None
    num_parts: int | None = None
    patterns: tuple[str, ...] = ()
    workers: int | None = None
    soft_links: bool = False

    @property
    def root(self) -> Path:
        """The folder of all copies."""
        return self.tree.lake.settings.cache / FOLDER

    @cached_property
    def key(self) -> str:
        """The name of the folder of this copy."""
        version = f"{self.tree.table.metadata.table_uuid}/{self.tree.snapshot.snapshot_id}"
        text = repr((version, self.part, self.num_parts, self.patterns))
        name = f"{self._prefix}{slug(self.tree.label)[:40]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        return f"{name}-links" if self.soft_links else name

    @property
    def _prefix(self) -> str:
        return f"{self.tree.dataset}@"

    @cached_property
    def files(self) -> Sequence[CopiedFile]:
        """The files, sorted by path.

        Raises:
            InvalidArgumentError: a pattern matches no file.
            RefusedTargetError: a path would leave the folder.
        """
        rows = select_files(self.tree.rows, self.part, self.num_parts, self.patterns)
        check_copied_paths(rows, str(self.tree.id))
        return copied_files(rows)

    def get(self) -> Path:
        """Returns the folder with exactly the files. It is created, or checked and mended.

        Raises:
            FileError: the store has lost or damaged a content, or the disk is full. No half copy is left.
        """
        files = self.files
        target = str(replace(self, soft_links=False).get()) if self.soft_links else None
        digest = hashlib.sha256(self.key.encode()).digest()
        with wrap_os_errors(f"cannot keep a copy of {str(self.tree.id)!r} in {str(self.root)!r}"):
            self.root.mkdir(parents=True, exist_ok=True)
            with named_lock(self.root, digest):
                for number in range(1, MAX_COPIES):
                    folder = self.root / (self.key if number == 1 else f"{self.key}-{number}")
                    if self._use(folder, files, target):
                        return folder / TREE
        raise FileError(
            f"there are {MAX_COPIES} copies {self.key!r} in {str(self.root)!r} that were changed; remove some"
        )

    def find(self) -> Path | None:
        """Returns the folder of the copy as it is; None if there is none."""
        folder = self.root / self.key / TREE
        return folder if folder.is_dir() else None

    def _use(self, folder: Path, files: Sequence[CopiedFile], links_to: str | None) -> bool:
        """Creates or mends a copy. Returns False if somebody has added files to it, which are left alone."""
        while True:
            if not (folder / MANIFEST).exists() and not self._create(folder, files, links_to):
                return False
            if copy_eviction.mark_used(folder):
                break  # else it was removed meanwhile
        state = inspect(folder / TREE, files, links_to)
        if state.extra is not None:
            logger.warning("%s is not in the tree: leaving %s alone, and making another copy", state.extra, folder)
            return False
        if state.damaged:
            logger.warning("mending %d files of %s, such as %r", len(state.damaged), folder, state.damaged[0].path)
            self._mend(folder, state.damaged, links_to)
        return True

    def _create(self, folder: Path, files: Sequence[CopiedFile], links_to: str | None) -> bool:
        if os.path.lexists(folder):
            return False  # it is not ours
        size = sum(max(each.size, 0) for each in files) if links_to is None else 0
        copy_eviction.evict(self.root, self.tree.lake.settings.cache_limit, size)
        with scratch_folder(self.root, "new-") as scratch:
            new = scratch / "copy"
            (new / TREE).mkdir(parents=True)
            if links_to is None:
                self._materialization(files).write(files, new / TREE)
            else:
                write_links(files, new / TREE, links_to)
            write_manifest(new / MANIFEST, files, size)
            try:
                new.rename(folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise  # else another process was faster
        return (folder / MANIFEST).exists()

    def _mend(self, folder: Path, damaged: Sequence[CopiedFile], links_to: str | None) -> None:
        materialization = self._materialization(damaged, folder)
        for file in damaged:
            target, new = folder / TREE / file.path, folder / f"new-{uuid.uuid4().hex}"
            target.parent.mkdir(parents=True, exist_ok=True)
            if links_to is None:
                materialization.write_file(file, str(new))
            else:
                new.symlink_to(f"{links_to}/{file.path}")
            new.replace(target)

    def _materialization(self, files: Sequence[CopiedFile], without: Path | None = None) -> Materialization:
        wanted = {file.inode_key for file in files}
        sources: dict[tuple[str, bool], str] = {}
        for sibling in self._siblings():
            if sibling != without and wanted:
                there = ((file.inode_key, file.path) for file in read_manifest(sibling))
                sources |= {key: f"{sibling}/{TREE}/{path}" for key, path in there if key in wanted}
                wanted -= sources.keys()
        return Materialization(self.tree.lake.blobs, str(self.tree.id), sources, self.workers)

    def _siblings(self) -> list[Path]:
        """Returns the copies of other versions of the dataset, the last used ones first."""
        used = []
        for folder in self.root.glob(f"{self._prefix}*"):
            at = copy_eviction.last_use(folder)
            if at is not None and not _LINKS.search(folder.name):
                used.append((at, folder))
        return [folder for _, folder in sorted(used, reverse=True)[:SIBLINGS]]
