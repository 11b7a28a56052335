"""Folders that become the first version of a new file tree, or its next version."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from lakefeed import _paths
from lakefeed._arrow import compute as pc
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.versions import version_of
from lakefeed.errors import (
    ColumnNotFoundError,
    CommitConflictError,
    InvalidArgumentError,
    MissingFileError,
    TreeStateError,
)
from lakefeed.registry.data_kinds import LocalData, RemoteData, TableData
from lakefeed.registry.table_writes import MAX_ATTEMPTS, WrittenVersion
from lakefeed.registry.version_facts import VersionFacts, candidate_names
from lakefeed.registry.version_labels import choose_label, used_labels
from lakefeed.storage.blobs.blob_writer import BlobWriter
from lakefeed.trees.draft_tables import DraftFacts
from lakefeed.trees.draft_tree import AnyFile
from lakefeed.trees.external_files import list_external
from lakefeed.trees.folder_scan import scan
from lakefeed.trees.tree_commit import commit_tree
from lakefeed.trees.tree_identity import TreeId
from lakefeed.trees.tree_rows import TREE_SCHEMA, TreeRows, apply_changes
from lakefeed.trees.tree_upload import FileRows


def store_folder(lake: Lake, writer: BlobWriter, data: LocalData | RemoteData) -> TreeRows:
    """Stores the contents of a local folder, and returns its files. Of a folder elsewhere, nothing is copied.

    Raises:
        MissingFileError: the folder does not exist, or has no files.
        FileError: a file cannot be read.
        InvalidArgumentError: a name cannot be in a tree.
    """
    files = _local_files(lake, data) if isinstance(data, LocalData) else _remote_files(data)
    if not files:
        location = data.path if isinstance(data, LocalData) else data.url
        raise MissingFileError(f"there are no files in {location!r}. Nothing was saved")
    batches = FileRows(lake, writer, lambda size: None, {}).batches(files)
    changes = pa.Table.from_batches(list(batches))
    return apply_changes(TreeRows.empty(), changes)


def _local_files(lake: Lake, data: LocalData) -> Mapping[str, AnyFile]:
    folder = Path(data.path)
    if not _paths.exists(folder):
        raise MissingFileError(
            f"there is no file or folder {data.path!r}{_paths.explain_missing(folder)}. Nothing was saved"
        )
    own = [lake.settings.home, lake.settings.cache]
    return scan(folder, lambda path: True, folder, "follow", left_out=own)


def _remote_files(data: RemoteData) -> Mapping[str, AnyFile]:
    return list_external(data.url, lambda path: True, True, True)[0]


def match_metadata(rows: TreeRows, meta: TableData | None) -> pa.Table | None:
    """Returns the metadata of the files in their order, without the column ``path``; null for files without any.

    Raises:
        ColumnNotFoundError: the metadata have no column ``path``.
        InvalidArgumentError: a path occurs twice or is not that of a file, or a column has the name of one of a tree.
    """
    if meta is None:
        return None
    table = meta.rows().to_arrow()
    if "path" not in table.column_names:
        raise ColumnNotFoundError.of("path", table.column_names, "meta")
    taken = [name for name in table.column_names if name != "path" and name in TREE_SCHEMA.names]
    if taken:
        raise InvalidArgumentError(f"meta: the columns {taken} have names of the columns of a file tree; rename them")
    paths: Any = table["path"].cast(pa.string()).combine_chunks()
    unknown = [path for path in paths.to_pylist() if path is None or rows.index(path) is None]
    if unknown:
        raise InvalidArgumentError(f"meta: {len(unknown)} paths are not those of files, such as {unknown[0]!r}")
    if len(paths.unique()) < len(paths):
        raise InvalidArgumentError("meta: a path occurs more than once")
    return table.drop_columns(["path"]).take(pc.index_in(rows.paths, value_set=paths))


@dataclass(frozen=True)
class TreeWrite:
    """A file tree to be committed.

    Attributes:
        lake: the lake.
        rows: the files, whose contents are stored.
        facts: the facts of the version.
        meta: further columns of the files.
    """

    lake: Lake
    rows: TreeRows
    facts: VersionFacts
    meta: pa.Table | None

    def commit(self) -> WrittenVersion:
        """Writes the version. Repeated calls with the same facts make one version.

        Raises:
            InvalidArgumentError: the label is taken. Nothing is written.
            CommitConflictError: other writers kept committing first. Nothing is written.
        """
        for _ in range(MAX_ATTEMPTS):
            name = self.facts.dataset or self._free_name()
            used = used_labels(self.lake.table(name)) if self.facts.dataset is not None else []
            label = choose_label(self.facts.label, list(dict.fromkeys([*used, *self.facts.used])))
            try:
                return self._commit(name, label)
            except TreeStateError:  # another process took the label or the name
                continue
        raise CommitConflictError(f"other writers kept adding versions to {self.facts.name!r}; try again")

    @property
    def _own_columns(self) -> VersionFacts:
        """The facts with the columns of the version: other versions of its dataset may have others."""
        if self.facts.dataset is None:
            return self.facts
        return replace(self.facts, columns=[*TREE_SCHEMA.names, *(() if self.meta is None else self.meta.column_names)])

    def _free_name(self) -> str:
        return next(name for name in candidate_names(self.lake, self.facts.name) if not self.lake.exists(name))

    def _commit(self, name: str, label: str) -> WrittenVersion:
        full = name if "." in name else f"{self.lake.settings.catalog.namespace}.{name}"
        project, _, table = full.rpartition(".")
        facts = DraftFacts(
            full, table, project, label, description=self.facts.description, created_ms=time.time_ns() // 1_000_000
        )
        tree = TreeId(full, self.facts.token[:12])
        provenance = self._own_columns.provenance()
        finished = commit_tree(self.lake, tree, facts, self.rows, lambda: None, provenance, self.meta)
        return WrittenVersion.of(name, version_of(finished.snapshot, finished.table))
