"""Join: rows of two inputs side by side where their keys are equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import pyarrow as pa

from lakefeed.config import Settings
from lakefeed.errors import ColumnNotFoundError, InvalidArgumentError, TypeMismatchError, listed
from lakefeed.plan import Input, Node
from lakefeed.sql import Rows, stream

JoinType: TypeAlias = Literal["inner", "left outer", "right outer", "full outer"]
JOIN_TYPES: tuple[JoinType, ...] = get_args(JoinType)
SUFFIX = "_right"
PLACE = "__lakefeed_place"
_SQL = {"inner": "INNER", "left outer": "LEFT", "right outer": "RIGHT", "full outer": "FULL"}


@dataclass(frozen=True, eq=False, repr=False)
class Join(Node):
    """``left`` joined with ``right`` on ``keys``, each key once; a name on both sides gets `SUFFIX` on the right.

    Rows come in the order of the left side, and for one left row in that of the right side; right rows without a
    partner come last. Null keys have no partner.
    """

    left: Node
    right: Node
    keys: tuple[str, ...]
    kind: JoinType
    settings: Settings

    def output_schema(self) -> pa.Schema:
        self._check()
        left, right = self.left.schema, self.right.schema
        fields = [field if field.name not in self.keys else field.with_nullable(True) for field in left]
        optional_left = self.kind in ("right outer", "full outer")
        fields = [field.with_nullable(True) if optional_left else field for field in fields]
        taken = set(left.names)
        for field in right:
            if field.name not in self.keys:
                name = field.name if field.name not in taken else f"{field.name}{SUFFIX}"
                if name in taken:
                    raise InvalidArgumentError(
                        f"both sides have {field.name!r} and {name!r}; select or rename columns before the join"
                    )
                taken.add(name)
                fields.append(field.with_name(name).with_nullable(True))
        return pa.schema(fields)

    def _check(self) -> None:
        if self.kind not in JOIN_TYPES:
            raise InvalidArgumentError(f"join_type={self.kind!r}: the types are {listed(JOIN_TYPES)}")
        if not self.keys or len(set(self.keys)) < len(self.keys):
            raise InvalidArgumentError(f"keys={list(self.keys)}: name one or several different columns")
        for side, schema in (("left", self.left.schema), ("right", self.right.schema)):
            missing = [key for key in self.keys if key not in schema.names]
            if missing:
                raise ColumnNotFoundError.of(missing, schema.names, f"the {side} side of the join")
        for key in self.keys:
            left, right = self.left.schema.field(key).type, self.right.schema.field(key).type
            if left != right and not _comparable(left, right):
                raise TypeMismatchError(f"join key {key!r} is {left} on the left and {right} on the right; cast one")

    def narrow_each(self, wanted: frozenset[str]) -> tuple[Node, tuple[frozenset[str] | None, ...]]:
        # The names on the right depend on those on the left, so both sides keep what is shared.
        shared = frozenset(self.left.schema.names) & frozenset(self.right.schema.names)
        left = frozenset(name for name in self.left.schema.names if name in wanted) | shared
        right = frozenset(name for name in self.right.schema.names if name in wanted) | shared
        return self, (left | frozenset(self.keys), right | frozenset(self.keys))

    def execute(self, inputs: Sequence[Input]) -> Iterator[pa.RecordBatch]:
        left, right = (
            Rows(node.schema.append(pa.field(PLACE, pa.int64())), _placed(given.batches))
            for node, given in zip((self.left, self.right), inputs, strict=True)
        )
        return stream(self.settings, self._sql(), {"l": left, "r": right}, self.schema)

    def _sql(self) -> str:
        columns = []
        rest = iter(self.schema.names[len(self.left.schema) :])
        for name in self.left.schema.names:
            quoted = _quoted(name)
            columns.append(f"coalesce(l.{quoted}, r.{quoted}) AS {quoted}" if name in self.keys else f"l.{quoted}")
        columns += [
            f"r.{_quoted(name)} AS {_quoted(next(rest))}" for name in self.right.schema.names if name not in self.keys
        ]
        on = " AND ".join(f"l.{_quoted(key)} = r.{_quoted(key)}" for key in self.keys)
        return (
            f"SELECT {', '.join(columns)} FROM l {_SQL[self.kind]} JOIN r ON {on} "
            f"ORDER BY l.{PLACE} NULLS LAST, r.{PLACE} NULLS LAST"
        )

    def identity(self) -> dict[str, object]:
        return {"keys": self.keys, "kind": self.kind}

    def describe(self) -> str:
        return f"Join {self.kind} on {', '.join(self.keys)}"


def _placed(batches: Callable[[], Iterator[pa.RecordBatch]]) -> Callable[[], Iterator[pa.RecordBatch]]:
    """The batches with the place of each row, by which the result is ordered."""

    def with_places() -> Iterator[pa.RecordBatch]:
        place = 0
        for batch in batches():
            places = pa.array(np.arange(place, place + batch.num_rows))
            place += batch.num_rows
            yield batch.append_column(PLACE, places)

    return with_places


def _comparable(left: pa.DataType, right: pa.DataType) -> bool:
    families = (
        pa.types.is_integer,
        lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind),
        lambda kind: pa.types.is_binary(kind) or pa.types.is_large_binary(kind),
    )
    return any(family(left) and family(right) for family in families)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
