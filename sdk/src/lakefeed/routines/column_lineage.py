"""The lineage of a routine's output: the stored columns from which its columns are computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from lakefeed.dataset import Dataset, plan_of
from lakefeed.plan import lineage

# For a column the columns that it is made of, each as (dataset, column).
Lineage: TypeAlias = Mapping[str, Sequence[tuple[str, str]]]


def column_lineage(rows: Dataset) -> dict[str, list[tuple[str, str]]]:
    """Returns for each column the columns of stored datasets from which it is computed.

    Columns of unknown origin are left out. The origin is known through operations that declare it (`Node.made_of`):
    selections of rows and columns, renames, expressions and joins, also behind `cache` and `mapped`. The origin of a
    column of a function or a query is unknown.

    Args:
        rows: the dataset.

    Raises:
        InvalidArgumentError: this is not a dataset.

    Example:
        >>> column_lineage(Dataset.from_dict({"x": [1]}).with_column("y", "x + 1"))
        {}
    """
    return {name: sorted(columns) for name, columns in lineage(plan_of(rows, "column_lineage")).columns.items()}
