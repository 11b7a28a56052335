"""The stored columns that the columns of a routine's output are made of, as far as the plan of its rows tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from lakefeed.dataset import Dataset, plan_of
from lakefeed.plan import lineage

# For a column the columns that it is made of, each as (dataset, column).
Lineage: TypeAlias = Mapping[str, Sequence[tuple[str, str]]]


def column_lineage(rows: Dataset) -> dict[str, list[tuple[str, str]]]:
    """Returns for each column the columns of stored datasets that it is made of; unknown ones are left out.

    Known is what passes through operations that say so (`Node.made_of`): a choice of rows and columns, new names,
    expressions, joins, also behind `cache` and `mapped`. What a function or a query makes of a column is not known.

    Example:
        >>> column_lineage(Dataset.from_dict({"x": [1]}).with_column("y", "x + 1"))
        {}
    """
    return {name: sorted(columns) for name, columns in lineage(plan_of(rows, "column_lineage")).columns.items()}
