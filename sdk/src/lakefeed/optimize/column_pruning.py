"""Column pruning: columns and struct fields that are not used are not read.

From the root down, every node learns which of its output columns are wanted. It narrows itself to them and returns
the input columns that it needs; at the scan this set becomes the projection. A column of which nodes only read some
fields (`Node.fields_read`) is read for these fields alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import pyarrow as pa

from lakefeed.ops import Scan
from lakefeed.plan import Node
from lakefeed.plan.walk import number_nodes

Wanted: TypeAlias = frozenset[str] | None
Fields: TypeAlias = Mapping[str, frozenset[tuple[str, ...]]]
"""The wanted paths of columns of which only some fields are wanted."""


def prune_columns(plan: Node) -> Node:
    """Returns the plan reading only the columns and fields that its result needs."""
    walk = number_nodes(plan)
    wanted: list[Wanted] = [None] * len(walk)
    fields: list[Fields] = [{}] * len(walk)
    rewritten = []
    for index, (node, children) in enumerate(walk):
        narrow, below = _narrow(node, wanted[index], fields[index])
        rewritten.append(narrow)
        for child, columns in zip(children, below, strict=True):
            wanted[child] = columns
            fields[child] = _fields_below(node, wanted[index], fields[index], columns)
    for index, (_, children) in reversed(list(enumerate(walk))):
        rewritten[index] = rewritten[index].over(tuple(rewritten[child] for child in children))
    return rewritten[0]


def _narrow(node: Node, wanted: Wanted, fields: Fields) -> tuple[Node, tuple[Wanted, ...]]:
    if isinstance(node, Scan):
        return _project(node, wanted, fields), ()
    return node.narrow_each(frozenset(node.schema.names) if wanted is None else wanted)


def _fields_below(node: Node, wanted: Wanted, fields: Fields, below: Wanted) -> Fields:
    read = node.fields_read()
    if read is None or below is None or wanted is None:
        return {}
    own_paths: dict[str, set[tuple[str, ...]]] = {}
    for path in read:
        own_paths.setdefault(str(path[0]), set()).add(_within_structs(node.children[0].schema, path))
    fields_below = {}
    for name in below:
        from_above = fields.get(name, frozenset()) if name in wanted else frozenset()
        whole = name in wanted and name not in fields
        paths = from_above | own_paths.get(name, set())
        if not whole and paths and all(len(path) > 1 for path in paths):
            fields_below[name] = frozenset(paths)
    return fields_below


def _within_structs(schema: pa.Schema, path: Iterable[str | int]) -> tuple[str, ...]:
    """Returns the start of the path that leads through structs by name."""
    name, *rest = path
    names, kind = [str(name)], schema.field(str(name)).type
    for step in rest:
        if not isinstance(kind, pa.StructType) or not isinstance(step, str):
            break
        names.append(step)
        kind = kind.field(step).type
    return tuple(names)


def _project(scan: Scan, wanted: Wanted, fields: Fields) -> Scan:
    names = tuple(scan.schema.names)
    # A scan without columns would lose its number of rows.
    columns = names if wanted is None else tuple(name for name in names if name in wanted) or names[:1]
    paths = tuple(sorted(path for name in columns for path in fields.get(name, ()))) if scan.source.nested else ()
    if columns == names and not paths:
        return scan
    return scan.pushed(columns=columns, fields=paths)
