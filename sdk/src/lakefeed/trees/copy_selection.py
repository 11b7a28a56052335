"""The files of a tree that a copy has: all, one of several parts, or those that match patterns."""

from __future__ import annotations

from functools import reduce
from typing import Any, Final

import numpy as np
import pyarrow as pa

from lakefeed._arrow import compute as pc
from lakefeed._validate import is_whole
from lakefeed.errors import InvalidArgumentError, RefusedTargetError
from lakefeed.trees.tree_paths import check_conflicts, matching, path_problem, pattern_of
from lakefeed.trees.tree_rows import TreeRows, column

MAX_PARTS: Final = 1_000_000


def check_part(part: Any, num_parts: Any) -> None:
    """Checks the number of a part, from 0, and the number of parts, or None for both."""
    if part is None and num_parts is None:
        return
    if not is_whole(num_parts) or not 1 <= num_parts <= MAX_PARTS:
        raise InvalidArgumentError(
            f"num_parts must be a whole number from 1 to {MAX_PARTS:,} where part is given, got {num_parts!r:.80}"
        )
    if not is_whole(part) or not 0 <= part < num_parts:
        raise InvalidArgumentError(
            f"part must be a whole number from 0 to num_parts - 1 = {num_parts - 1}, got {part!r}"
        )


def check_patterns(files: Any) -> tuple[str, ...]:
    """Returns the patterns of files; none for None."""
    values = () if files is None else (files,) if isinstance(files, str) else files
    if not isinstance(values, list | tuple | set | frozenset) or (files is not None and not values):
        raise InvalidArgumentError(f"files must be a pattern or a list of patterns, got {files!r:.80}")
    return tuple(sorted({pattern_of(each, "files") for each in values}))


def select_files(rows: TreeRows, part: int | None, num_parts: int | None, patterns: tuple[str, ...]) -> TreeRows:
    """Returns the files that match one of the patterns, then those of a part.

    Parts are disjoint, together they are the whole, and each has about the same number of bytes.

    Raises:
        InvalidArgumentError: a pattern matches no file.
    """
    masks = [matching(rows.paths, each, True) for each in patterns]
    for pattern, mask in zip(patterns, masks, strict=True):
        if not pc.any(mask).as_py():
            raise InvalidArgumentError(f"files={pattern!r}: the tree has no such file")
    chosen = rows.select(reduce(pc.or_, masks)) if masks else rows
    if part is None or num_parts is None:
        return chosen
    sizes: Any = column(chosen.table, "file").field("size")
    weights = sizes.fill_null(0).to_numpy(zero_copy_only=False).astype(np.float64) + 1
    middles = np.cumsum(weights) - weights / 2
    numbers = np.minimum((middles * num_parts / max(float(weights.sum()), 1.0)).astype(np.int64), num_parts - 1)
    return chosen.select(pa.array(numbers == part))


def check_copied_paths(rows: TreeRows, tree: str) -> None:
    """Checks the paths of a tree, which another program may have written, before they become paths of this machine.

    Raises:
        RefusedTargetError: a path would leave the folder of the copy.
        ConflictingPathsError: a path is a file and a folder.
    """
    for path in rows.path_list:
        problem = path_problem(path)
        if problem is not None:
            raise RefusedTargetError(f"the tree {tree!r} has the path {path!r:.300}, which {problem}; it is not copied")
    check_conflicts(rows.path_list, f"the tree {tree!r}")
