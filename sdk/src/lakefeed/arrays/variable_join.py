"""The columns that are read of each matrix, and their order, so that several files have the same variables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from lakefeed.arrays.cell_matrix import Rows, SparseRows
from lakefeed.errors import InvalidArgumentError, SchemaError, quoted_list

JoinVars: TypeAlias = Literal["auto", "inner"] | None
Columns: TypeAlias = npt.NDArray[np.int64]

NAMES_IN_MESSAGE: Final = 5


def check_join(join_vars: JoinVars) -> JoinVars:
    """Returns a way of joining variables."""
    if join_vars not in (None, "auto", "inner") or not isinstance(join_vars, str | None):
        raise InvalidArgumentError(f'join_vars must be "auto", "inner" or None, got {join_vars!r:.80}')
    return join_vars


def join_variables(
    names: Sequence[Sequence[str]], files: Sequence[str], join_vars: JoinVars
) -> tuple[list[str], list[Columns | None]]:
    """Returns the variables of all files, and the columns of each file; None where all of them are read as they are.

    Args:
        names: the variables of each file.
        files: the names of the files.
        join_vars: None: all files must have the same variables; "inner": those that all files have; "auto": as "inner"
            if they differ.

    Raises:
        SchemaError: the variables differ and are not to be joined, none is in all files, or a name occurs twice.
    """
    first = list(names[0])
    differing = next((number for number, each in enumerate(names) if list(each) != first), None)
    if differing is None:
        return first, [None] * len(names)
    if join_vars is None:
        raise SchemaError(_difference(names, files, differing))
    for each, file in zip(names, files, strict=True):
        twice = [name for name, times in Counter(each).items() if times > 1]
        if twice:
            raise SchemaError(
                f"the variables of {file} cannot be joined with those of other files by name, as some occur more than "
                f"once: {quoted_list(twice, NAMES_IN_MESSAGE)}. Call var_names_make_unique and write the file again"
            )
    shared = set(first).intersection(*names[1:])
    joint = [name for name in first if name in shared]
    if not joint:
        raise SchemaError(f"no variable is in all of {quoted_list(files)}: {_difference(names, files, differing)}")
    columns: list[Columns | None] = []
    for each in names:
        position = {name: number for number, name in enumerate(each)}
        columns.append(None if list(each) == joint else np.array([position[name] for name in joint], np.int64))
    return joint, columns


def select_columns(rows: Rows, columns: Columns, width: int) -> Rows:
    """Returns rows with some of their columns.

    Args:
        rows: the rows.
        columns: the columns in the order in which they are wanted.
        width: the number of columns of ``rows``.
    """
    if not isinstance(rows, SparseRows):
        return np.take(rows, columns, axis=1)
    target = np.full(width, -1, rows.indices.dtype)
    target[columns] = np.arange(len(columns))
    moved = target[rows.indices]
    stays = moved >= 0
    totals = np.concatenate(([0], np.cumsum(stays)))
    return SparseRows(totals[rows.indptr], moved[stays], rows.data[stays])


def _difference(names: Sequence[Sequence[str]], files: Sequence[str], differing: int) -> str:
    first, other = names[0], names[differing]
    known = set(first), set(other)
    missing = [name for name in first if name not in known[1]]
    added = [name for name in other if name not in known[0]]
    parts = [f"{files[differing]} has {len(other)} variables, {files[0]} {len(first)}"]
    if missing:
        parts.append(f"it lacks {quoted_list(missing, NAMES_IN_MESSAGE)}")
    if added:
        parts.append(f"only it has {quoted_list(added, NAMES_IN_MESSAGE)}")
    if not missing and not added:
        parts.append("in another order")
    return "; ".join(parts) + '. join_vars="inner" takes those that all files have'
