"""The index of a DataFrame: its levels become columns of the table, and `load` makes an index of them again.

An unnamed index of integers has the numbers of rows, and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any


def name_index(frame: Any) -> Any:
    """Returns a DataFrame of which all index levels that become columns have different names, which are texts."""
    levels = frame.index.names
    if len({name for name in levels if isinstance(name, str)}) == len(levels):
        return frame
    if levels == [None] and _has_row_numbers(frame.index):
        return frame
    taken = {str(name) for name in (*frame.columns, *levels) if name is not None}
    names: list[str] = []
    for number, name in enumerate(levels):
        names.append(_name_of(number, None if name is None or str(name) in names else name, len(levels), taken))
    return frame.rename_axis(names)


def index_columns(frame: Any) -> list[tuple[str, str | None]]:
    """Returns for each index level that becomes a column the name of the column and that of the level."""
    named = name_index(frame)
    if named.index.names == [None]:
        return []
    pairs = zip(named.index.names, frame.index.names, strict=True)
    return [(str(column), None if level is None else str(level)) for column, level in pairs]


def restore_index(frame: Any, columns: Any) -> Any:
    """Returns a DataFrame with the index that `index_columns` told; as it is if there was none."""
    if not isinstance(columns, Sequence) or not columns or any(column not in frame for column, _ in columns):
        return frame
    return frame.set_index([column for column, _ in columns]).rename_axis([level for _, level in columns])


def _has_row_numbers(index: Any) -> bool:
    return not len(index) or getattr(index.dtype, "kind", "") in "iu"


def _name_of(number: int, name: Any, levels: int, taken: set[str]) -> str:
    """Returns the name of a level; without one, as pandas would choose it: "index", or "level_0" and so on."""
    if name is not None:
        return str(name)
    wanted = "index" if levels == 1 and "index" not in taken else f"level_{number}"
    free = wanted if wanted not in taken else next(each for i in count(2) if (each := f"{wanted}_{i}") not in taken)
    taken.add(free)
    return free
