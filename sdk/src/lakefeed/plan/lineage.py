"""The stored datasets that the rows and columns of a plan come from, as far as the plan tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from lakefeed.plan.walk import number_nodes

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

    A column whose origin is not known is not in ``columns``. ``untrusted``: the columns that hold, or may hold, text
    from files of other machines; it may not choose which files of this machine are read.
    """

    origins: tuple[Origin, ...] = ()
    columns: Mapping[str, Columns] = field(default_factory=dict)
    untrusted: frozenset[str] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, for `from_json`."""
        return {
            "origins": [asdict(origin) for origin in self.origins],
            "columns": {name: sorted(map(list, columns)) for name, columns in self.columns.items()},
            "untrusted": sorted(self.untrusted),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Lineage:
        """Returns the lineage that `to_json` wrote."""
        columns = {
            name: frozenset((dataset, column) for dataset, column in of) for name, of in value["columns"].items()
        }
        origins = tuple(Origin(**origin) for origin in value["origins"])
        return cls(origins, columns, frozenset(value["untrusted"]))


def lineage(plan: Node) -> Lineage:
    """Returns the lineage of a plan's rows.

    A column is known if every node above its source says which input columns it is made of (`Node.made_of`): a choice
    of rows and columns, new names, expressions, joins. The output of a function or a query is not known, so all of it
    is untrusted where a column that it reads is.
    """
    walk = number_nodes(plan)
    done = [Lineage()] * len(walk)
    for index, (node, children) in reversed(list(enumerate(walk))):
        source = node.leaf_source
        below = [done[child] for child in children]
        done[index] = _derive(node, below) if source is None else _narrow(source.lineage, node.schema.names)
    return done[0]


def _narrow(whole: Lineage, names: Sequence[str]) -> Lineage:
    """Returns the lineage of some of the columns."""
    columns = {name: whole.columns[name] for name in names if name in whole.columns}
    return Lineage(whole.origins, columns, whole.untrusted.intersection(names))


def _derive(node: Node, below: Sequence[Lineage]) -> Lineage:
    """Returns the lineage of a node's rows, made of those of its children."""
    origins = tuple(dict.fromkeys(origin for each in below for origin in each.origins))
    columns: dict[str, Columns] = {}
    untrusted = set()
    for name in node.schema.names:
        made_of = node.made_of(name)
        if made_of is None:
            if any(each.untrusted for each in below):
                untrusted.add(name)
            continue
        if any(column in below[child].untrusted for child, column in made_of):
            untrusted.add(name)
        inputs = [below[child].columns.get(column) for child, column in made_of]
        known = [each for each in inputs if each is not None]
        if len(known) == len(inputs):
            columns[name] = frozenset().union(*known)
    return Lineage(origins, columns, frozenset(untrusted))
