"""What the columns of a routine's output are made of, as far as the plan of its rows tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from lakefeed.dataset import Dataset
from lakefeed.ops import Scan
from lakefeed.plan import Node
from lakefeed.plan.walk import numbered
from lakefeed.sources.iceberg import IcebergSource

# For a column the columns that it is made of, each as (dataset, column).
Lineage: TypeAlias = Mapping[str, Sequence[tuple[str, str]]]


def column_lineage(rows: Dataset) -> dict[str, list[tuple[str, str]]]:
    """For each column the columns of stored datasets that it is made of; one of which that is not known is left out.

    Known is what passes through operations that say so (`Node.made_of`): a choice of rows and columns, new names,
    expressions, joins. What a function or a query makes of a column is not known.

    Example:
        >>> column_lineage(Dataset.from_dict({"x": [1]}).with_column("y", "x + 1"))
        {}
    """
    walk = numbered(rows._plan)
    known: list[dict[str, set[tuple[str, str]] | None]] = [{} for _ in walk]
    for index, (node, children) in reversed(list(enumerate(walk))):
        known[index] = {name: _made_of(node, name, [known[child] for child in children]) for name in node.schema.names}
    return {name: sorted(found) for name, found in known[0].items() if found is not None}


def _made_of(
    node: Node, column: str, below: Sequence[Mapping[str, set[tuple[str, str]] | None]]
) -> set[tuple[str, str]] | None:
    if isinstance(node, Scan):
        return {(node.source.name, column)} if isinstance(node.source, IcebergSource) else None
    made_of = node.made_of(column)
    if made_of is None:
        return None
    origins = [below[child].get(name) for child, name in made_of]
    known = [each for each in origins if each is not None]
    return set().union(*known) if len(known) == len(origins) else None
