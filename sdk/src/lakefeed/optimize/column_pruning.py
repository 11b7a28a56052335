"""Columns, and fields of struct columns, that nobody asks for are not read.

From the root down, every node is told which of its output columns are wanted, narrows itself to what they need and
says which input columns that takes; at the scan the set becomes the projection. A column that is wanted only because
nodes look at some of its fields (`Node.fields_read`) is read for these fields alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import pyarrow as pa

from lakefeed.ops import Scan
from lakefeed.plan import Node
from lakefeed.plan.walk import numbered

Wanted: TypeAlias = frozenset[str] | None
Fields: TypeAlias = Mapping[str, frozenset[tuple[str, ...]]]
"""Of these columns only these paths are wanted; of the others everything."""


def prune_columns(plan: Node) -> Node:
    """The plan reading only what its result needs."""
    walk = numbered(plan)
    wanted: list[Wanted] = [None] * len(walk)
    fields: list[Fields] = [{}] * len(walk)
    done = []
    for index, (node, children) in enumerate(walk):
        narrow, below = _narrow(node, wanted[index], fields[index])
        done.append(narrow)
        for child, columns in zip(children, below, strict=True):
            wanted[child] = columns
            fields[child] = _fields_below(node, wanted[index], fields[index], columns)
    for index, (_, children) in reversed(list(enumerate(walk))):
        done[index] = done[index].over(tuple(done[child] for child in children))
    return done[0]


def _narrow(node: Node, wanted: Wanted, fields: Fields) -> tuple[Node, tuple[Wanted, ...]]:
    if isinstance(node, Scan):
        return _project(node, wanted, fields), ()
    return node.narrow_each(frozenset(node.schema.names) if wanted is None else wanted)


def _fields_below(node: Node, wanted: Wanted, fields: Fields, below: Wanted) -> Fields:
    read = node.fields_read()
    if read is None or below is None or wanted is None:
        return {}
    looked_at: dict[str, set[tuple[str, ...]]] = {}
    for path in read:
        looked_at.setdefault(str(path[0]), set()).add(_within_structs(node.children[0].schema, path))
    found = {}
    for name in below:
        from_above = fields.get(name, frozenset()) if name in wanted else frozenset()
        whole = name in wanted and name not in fields
        paths = from_above | looked_at.get(name, set())
        if not whole and paths and all(len(path) > 1 for path in paths):
            found[name] = frozenset(paths)
    return found


def _within_structs(schema: pa.Schema, path: Iterable[str | int]) -> tuple[str, ...]:
    """As much of the path as leads through structs by name."""
    name, *rest = path
    found, kind = [str(name)], schema.field(str(name)).type
    for step in rest:
        if not isinstance(kind, pa.StructType) or not isinstance(step, str):
            break
        found.append(step)
        kind = kind.field(step).type
    return tuple(found)


def _project(scan: Scan, wanted: Wanted, fields: Fields) -> Scan:
    names = tuple(scan.schema.names)
    # A scan of no columns would not know its rows: keep one.
    columns = names if wanted is None else tuple(name for name in names if name in wanted) or names[:1]
    paths = tuple(sorted(path for name in columns for path in fields.get(name, ()))) if scan.source.nested else ()
    if columns == names and not paths:
        return scan
    return scan.pushed(columns=columns, fields=paths)
