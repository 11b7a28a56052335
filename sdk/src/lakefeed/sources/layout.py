"""How the rows of one file of a table are read: what of it, as what, and which of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import pyarrow as pa

from lakefeed.catalog.fitting import Fitting, is_text
from lakefeed.expr import Bounds, Expr, conjuncts, evaluate, paths, residual, roots
from lakefeed.formats.footer import FIELD_ID, Footer
from lakefeed.formats.where import Odds, Where
from lakefeed.plan import Pushdown, projected


class Layout:
    """How the rows of a file are read as those of ``schema`` under a pushdown.

    ``ids``: the field id of each column. ``odds``: what was seen of the predicate in other files. Thread-safe.
    """

    def __init__(
        self, footer: Footer, schema: pa.Schema, ids: Mapping[str, bytes], pushdown: Pushdown, odds: Odds
    ) -> None:
        self._footer, self._ids, self._fields, self._odds = footer, ids, pushdown.fields, odds
        asked = projected(schema, pushdown)
        names = names_in_file(footer, asked, ids)
        self.fit = Fitting(names, asked)
        self.leaves = [
            leaf
            for name, field in zip(names, asked, strict=True)
            for leaf in _leaves(footer, name, field, pushdown.fields)
        ]
        self._asked = frozenset(asked.names)
        self._tested = projected(schema, replace(pushdown, columns=with_tested(schema, pushdown)))
        self._predicate = pushdown.predicate
        self.selective = self._predicate is not None and all(_leads(self._tested, p) for p in paths(self._predicate))
        """Whether the predicate can be found of the file's rows; else it is a hint on what is not read."""
        self._known: dict[int, Where | None] = {}
        self._made: dict[tuple[int, ...], Where] = {}

    def where(self, group: int) -> Where | None:
        """Which rows of a row group are wanted; None for all: if nobody filters them, or its statistics tell so."""
        if self._predicate is None or not self.selective:
            return None
        if group not in self._known:
            self._known[group] = self._where(self._predicate, group)
        return self._known[group]

    def _where(self, predicate: Expr, group: int) -> Where | None:
        left = residual(predicate, {path: groups[group] for path, groups in self._bounds.items()})
        if left is None:
            return None
        key = tuple(map(id, conjuncts(left)))  # a long predicate takes long to be hashed
        if key not in self._made:
            self._made[key] = self._of(left)
        return self._made[key]

    @cached_property
    def _bounds(self) -> dict[tuple[str, ...], list[Bounds]]:
        """The statistics of what the predicate reads, in every row group."""
        found: dict[tuple[str, ...], list[Bounds]] = {}
        for path in paths(self._predicate) if self._predicate is not None else ():
            [name] = names_in_file(self._footer, pa.schema([self._tested.field(str(path[0]))]), self._ids)
            steps = tuple(step for step in path[1:] if isinstance(step, str))
            groups = self._footer.bounds((name, *steps)) if name is not None and len(steps) == len(path) - 1 else None
            if groups is not None:
                found[str(path[0]), *steps] = groups
        return found

    def _of(self, predicate: Expr) -> Where:
        declared = pa.schema([field for field in self._tested if field.name in roots(predicate)])
        names = names_in_file(self._footer, declared, self._ids)
        there = [(name, field) for name, field in zip(names, declared, strict=True) if name is not None]
        footer, fit = self._footer, Fitting(names, declared, dictionaries=True)
        return Where(
            columns=frozenset(name for name, _ in there),
            test=lambda batch: evaluate(predicate, fit(batch)),
            texts=frozenset(n for n, field in there if is_text(field) and is_text(footer.schema.field(n))),
            beside={n: _leaves(footer, n, f, self._fields) for n, f in there if f.name not in self._asked},
            odds=self._odds,
        )


def names_in_file(footer: Footer, schema: pa.Schema, ids: Mapping[str, bytes]) -> list[str | None]:
    """The file's name for each column: the one that carries its field id (names change, ids do not)."""
    by_id = footer.names_by_id
    if by_id.keys() == {None}:  # written without ids and added later: names decide
        there = frozenset(footer.schema.names)
        return [field.name if field.name in there else None for field in schema]
    return [by_id.get(ids[field.name]) for field in schema]


def with_tested(schema: pa.Schema, pushdown: Pushdown) -> tuple[str, ...] | None:
    """The columns that are asked for, and those that the predicate reads."""
    if pushdown.columns is None or pushdown.predicate is None:
        return pushdown.columns
    wanted = {*pushdown.columns, *roots(pushdown.predicate)}
    return tuple(name for name in schema.names if name in wanted)


def fields_of_structs(schema: pa.Schema) -> dict[bytes, frozenset[tuple[bytes, str]]]:
    """By the id of each column: the id and name of every field of a struct in it. Columns without ids are left out."""
    found = {}
    for column in schema:
        fields, inside = set(), [column.type]
        while inside:
            kind = inside.pop()
            children = [kind.field(place) for place in range(kind.num_fields)]
            if pa.types.is_struct(kind):
                fields |= {(_id_of(child), child.name) for child in children}
            inside += [child.type for child in children]
        if _id_of(column):
            found[_id_of(column)] = frozenset(fields)
    return found


def _id_of(field: pa.Field[Any]) -> bytes:
    return (field.metadata or {}).get(FIELD_ID, b"")


def _leads(schema: pa.Schema, path: tuple[str | int, ...]) -> bool:
    """Whether a column, or field of a struct column, is there."""
    inner: Any = pa.struct(list(schema))
    for step in path:
        if isinstance(inner, pa.StructType):
            place = inner.get_field_index(str(step))
            if place < 0:
                return False
            inner = inner.field(place).type
    return True


def _leaves(footer: Footer, name: str | None, field: pa.Field[Any], fields: tuple[tuple[str, ...], ...]) -> list[str]:
    """What to read of a file for a column: its name there, or the dotted paths of the fields that are wanted."""
    if name is None:
        return []
    wanted = [".".join((name, *path[1:])) for path in fields if path[0] == field.name]
    # A file that lacks one of the fields (it came later) is read for the whole column.
    return wanted if wanted and all(path in footer.stored for path in wanted) else [name]
