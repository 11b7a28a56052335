"""The files of a tree as an Arrow table, and what is computed of several ones: overlays and differences."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakefeed._arrow import compute as pc
from lakefeed.errors import ConflictingPathsError
from lakefeed.media.file import FILE
from lakefeed.media.file_column_types import typed_schema
from lakefeed.trees.tree_paths import check_conflicts

TREE_SCHEMA: Final = typed_schema(
    pa.schema(
        [
            pa.field("path", pa.string()),
            pa.field("file", FILE.struct),
            pa.field("executable", pa.bool_()),
            pa.field("etag", pa.string()),
            pa.field("origin", pa.string()),
        ]
    ),
    {"file": FILE.name},
)
"""The columns of a tree. ``origin`` is the id of the version that brought the content."""

ADD: Final = "add"
REMOVE: Final = "remove"
FEW_CHANGES: Final = 256
"""Up to so many changes are inserted one by one."""
CHANGE_SCHEMA: Final = TREE_SCHEMA.append(pa.field("op", pa.string()))
"""The columns of changes, which add or remove files."""


@dataclass(frozen=True, eq=False)
class TreeRows:
    """The files of a tree.

    Attributes:
        table: the files, of `TREE_SCHEMA`, sorted by path. Each path occurs once.
    """

    table: pa.Table

    @classmethod
    def of(cls, rows: pa.Table) -> TreeRows:
        """Returns the files in rows of any order; of a path that occurs twice, the last one."""
        return cls(_last_of_each_path(rows.select(TREE_SCHEMA.names)))

    @classmethod
    def empty(cls) -> TreeRows:
        """Returns a tree without files."""
        return cls(TREE_SCHEMA.empty_table())

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def paths(self) -> Any:
        """The paths, sorted."""
        return column(self.table, "path")

    @cached_property
    def path_list(self) -> Sequence[str]:
        """The paths as Python text."""
        return list(self.paths.to_pylist())

    @cached_property
    def contents(self) -> Sequence[Any]:
        """The columns that make two files of a path different, without nulls."""
        file: Any = column(self.table, "file")
        names = FILE.struct.names
        parts = file.flatten()
        texts = [parts[names.index("sha256")], parts[names.index("url")], column(self.table, "etag")]
        return [*(pc.fill_null(each, "") for each in texts), pc.fill_null(column(self.table, "executable"), False)]

    @property
    def digests(self) -> list[bytes]:
        """The raw SHA-256 of the contents in the store, each once."""
        sha256: Any = column(self.table, "file").field("sha256")
        return [bytes.fromhex(each) for each in sha256.drop_null().unique().to_pylist()]

    def index(self, path: str) -> int | None:
        """Returns the position of a path; None if the tree has no such file."""
        at = self.position(path)
        return at if at < len(self) and self.paths[at].as_py() == path else None

    def position(self, path: str) -> int:
        """Returns the number of paths that sort before a path. Makes no Python text of the others."""
        paths = self.paths
        return bisect_left(range(len(self)), path, key=lambda at: paths[at].as_py())

    def below(self, folder: str) -> str | None:
        """Returns the first path below a folder; None if there is none."""
        at = self.position(f"{folder}/")
        path = self.paths[at].as_py() if at < len(self) else ""
        return str(path) if path.startswith(f"{folder}/") else None

    def take(self, positions: Any) -> TreeRows:
        """Returns some of the files, at ascending positions."""
        return TreeRows(self.table.take(positions))

    def select(self, mask: Any) -> TreeRows:
        """Returns the files for which the mask is true."""
        return TreeRows(self.table.filter(mask))

    def with_origin(self, origin: str) -> pa.Table:
        """Returns the rows with an origin for those that have none."""
        at = self.table.schema.get_field_index("origin")
        origins: Any = column(self.table, "origin")
        return self.table.set_column(at, self.table.schema.field(at), pc.fill_null(origins, origin))


def column(table: pa.Table, name: str) -> Any:
    """Returns a column as one array."""
    chunks: Any = table[name].combine_chunks()
    if isinstance(chunks, pa.ChunkedArray):  # of a table without chunks
        return pa.concat_arrays(chunks.chunks) if chunks.num_chunks else pa.array([], chunks.type)
    return chunks


def _last_of_each_path(rows: pa.Table) -> pa.Table:
    if rows.num_rows == 0:
        return rows
    if rows["path"].null_count:
        rows = rows.filter(pc.is_valid(rows["path"]))
    given = column(rows, "path")
    if len(given) < 2 or pc.all(pc.less(given[:-1], given[1:])).as_py():
        return rows.combine_chunks()
    ordered = rows.take(pc.sort_indices(rows, sort_keys=[("path", "ascending")])).combine_chunks()  # stable
    paths = column(ordered, "path")
    if len(paths) < 2:
        return ordered
    differs: Any = pc.not_equal(paths[:-1], paths[1:])
    if pc.all(differs).as_py():
        return ordered
    return ordered.filter(pa.concat_arrays([differs, pa.array([True])])).combine_chunks()


def overlay(trees: Sequence[TreeRows], names: Sequence[str]) -> TreeRows:
    """Returns the files of several trees; of a path in several ones, that of the last tree.

    Raises:
        ConflictingPathsError: a path is a file in one tree and a folder in another. The message names the trees.
    """
    if len(trees) < 2:
        return trees[0] if trees else TreeRows.empty()
    merged = TreeRows.of(pa.concat_tables([each.table for each in trees]))
    try:
        check_conflicts(merged.path_list, "parents")
    except ConflictingPathsError as error:
        raise ConflictingPathsError(f"{error}. The parents are {', '.join(names)}") from None
    return merged


def apply_changes(base: TreeRows, changes: pa.Table) -> TreeRows:
    """Returns a tree after changes of `CHANGE_SCHEMA`; of a path, the last change counts."""
    if changes.num_rows == 0:
        return base
    last = _last_of_each_path(changes.select(CHANGE_SCHEMA.names))
    if last.num_rows <= FEW_CHANGES:
        return _insert(base, last)
    others = base.select(pc.invert(pc.is_in(base.paths, value_set=column(last, "path"))))
    return TreeRows.of(pa.concat_tables([others.table, _added(last)]))


def _added(changes: pa.Table) -> pa.Table:
    return changes.filter(pc.equal(column(changes, "op"), pa.scalar(ADD))).select(TREE_SCHEMA.names)


def _insert(base: TreeRows, changes: pa.Table) -> TreeRows:
    """Returns a tree after a few changes, sorted by path, without sorting the others."""
    parts, start = [], 0
    for number, path in enumerate(column(changes, "path").to_pylist()):
        at = base.position(path)
        parts += [base.table.slice(start, at - start), _added(changes.slice(number, 1))]
        start = at + (base.index(path) is not None)
    return TreeRows(pa.concat_tables([*parts, base.table.slice(start)]).combine_chunks())


class Difference(NamedTuple):
    """The paths that a tree has, lacks or has with another content, compared with an older one."""

    added: list[str]
    removed: list[str]
    modified: list[str]


def compare(old: TreeRows, new: TreeRows) -> Difference:
    """Returns the difference of two trees, sorted by path."""
    before: Any = pc.index_in(new.paths, value_set=old.paths)
    after: Any = pc.index_in(old.paths, value_set=new.paths)
    common = pc.is_valid(before)
    modified = new.paths.filter(common).filter(different(new, common, old, before.drop_null()))
    return Difference(
        new.paths.filter(pc.invert(common)).to_pylist(),
        old.paths.filter(pc.is_null(after)).to_pylist(),
        modified.to_pylist(),
    )


def different(new: TreeRows, mask: Any, old: TreeRows, positions: Any) -> Any:
    """Returns which files of ``new`` at ``mask`` differ from those of ``old`` at ``positions``."""
    pairs = ((one.filter(mask), other.take(positions)) for one, other in zip(new.contents, old.contents, strict=True))
    return reduce(pc.or_, (pc.not_equal(one, other) for one, other in pairs))


def renames(old: TreeRows, new: TreeRows, difference: Difference) -> list[tuple[str, str]]:
    """Returns pairs of a removed and an added path of one content, each path once, in the order of the new paths."""
    sources: dict[str, list[str]] = {}
    for path, digest in _digests(old, difference.removed):
        sources.setdefault(digest, []).append(path)
    pairs = []
    for path, digest in _digests(new, difference.added):
        if sources.get(digest):
            pairs.append((sources[digest].pop(0), path))
    return pairs


def _digests(rows: TreeRows, paths: Sequence[str]) -> Iterable[tuple[str, str]]:
    positions = pc.index_in(pa.array(paths, pa.string()), value_set=rows.paths)
    digests: Any = rows.contents[0].take(positions)
    return ((path, digest) for path, digest in zip(paths, digests.to_pylist(), strict=True) if digest)


def positions_of(rows: TreeRows, paths: pa.Array[Any]) -> NDArray[np.int64]:
    """Returns the position of each path in a tree; -1 for those that it lacks."""
    indices: Any = pc.index_in(paths, value_set=rows.paths)
    return np.asarray(indices.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)
