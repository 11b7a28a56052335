"""The stored datasets that the rows and columns of a plan come from, as far as the plan tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from lakefeed.plan.walk import numbered

if TYPE_CHECKING:
    from lakefeed.plan.node import Node

Columns: TypeAlias = frozenset[tuple[str, str]]
"""Columns of stored datasets, each as (dataset, column)."""


@dataclass(frozen=True)
class Origin:
    """A snapshot of a stored dataset from which rows were read.

    ``from_version``: only the changes after that version were read (0: since the beginning; None: all rows).
    ``schema_id``: the rows were read under this schema of the table (None: under the schema of the snapshot).
    """

    dataset: str
    table_uuid: str
    snapshot_id: int
    version: int
    from_version: int | None = None
    schema_id: int | None = None


@dataclass(frozen=True)
class Lineage:
    """The snapshots that rows were read from, and for each column the stored columns that it is made of.

    A column whose origin is not known is not in ``columns``.
    """

    origins: tuple[Origin, ...] = ()
    columns: Mapping[str, Columns] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, for `from_json`."""
        return {
            "origins": [asdict(origin) for origin in self.origins],
            "columns": {name: sorted(map(list, columns)) for name, columns in self.columns.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Lineage:
        """Returns the lineage that `to_json` wrote."""
        columns = {
            name: frozenset((dataset, column) for dataset, column in of) for name, of in value["columns"].items()
        }
        return cls(tuple(Origin(**origin) for origin in value["origins"]), columns)


def lineage(plan: Node) -> Lineage:
    """Returns the lineage of a plan's rows.

    A column is known if every node above its source says which input columns it is made of (`Node.made_of`): a choice
    of rows and columns, new names, expressions, joins. The output of a function or a query is not known.
    """
    walk = numbered(plan)
    known: list[dict[str, Columns]] = [{} for _ in walk]
    origins: dict[Origin, None] = {}
    for index, (node, children) in reversed(list(enumerate(walk))):
        source = node.leaf_source
        if source is not None:
            origins.update(dict.fromkeys(source.lineage.origins))
            known[index] = {name: of for name, of in source.lineage.columns.items() if name in node.schema.names}
        else:
            below = [known[child] for child in children]
            columns = {name: _columns(node, name, below) for name in node.schema.names}
            known[index] = {name: of for name, of in columns.items() if of is not None}
    return Lineage(tuple(origins), known[0])


def _columns(node: Node, column: str, below: Sequence[Mapping[str, Columns]]) -> Columns | None:
    made_of = node.made_of(column)
    if made_of is None:
        return None
    origins = [below[child].get(name) for child, name in made_of]
    known = [each for each in origins if each is not None]
    return frozenset().union(*known) if len(known) == len(origins) else None


def _column(pair: Sequence[str]) -> tuple[str, str]:
    dataset, column = pair
    return dataset, column
