"""Join: rows of two inputs side by side where their keys are equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import pyarrow as pa

from lakefeed.config import Settings
from lakefeed.errors import ColumnNotFoundError, InvalidArgumentError, TypeMismatchError, listed
from lakefeed.plan import Input, Node
from lakefeed.sql import Rows, require_carried, stream

JoinType: TypeAlias = Literal["inner", "left outer", "right outer", "full outer"]
JOIN_TYPES: tuple[JoinType, ...] = get_args(JoinType)
SUFFIX = "_right"
PLACE = "place"
_SQL = {"inner": "INNER", "left outer": "LEFT", "right outer": "RIGHT", "full outer": "FULL"}


@dataclass(frozen=True, eq=False, repr=False)
class Join(Node):
    """``left`` joined with ``right`` on ``keys``, each key once; a name on both sides gets `SUFFIX` on the right.

    Rows come in the order of the left side, and for one left row in that of the right side; right rows without a
    partner come last, in their order. Null keys have no partner; NaN is equal to NaN. Whole numbers may be keys of
    different widths; the wider one comes out.

    The order costs a sort by the places of both rows. Without it the order would follow from what happens to fit into
    memory, and rows would differ from one machine to the next.
    """

    left: Node
    right: Node
    keys: tuple[str, ...]
    kind: JoinType
    settings: Settings

    def output_schema(self) -> pa.Schema:
        self._check()
        left, right = self.left.schema, self.right.schema
        fields = [self._key(field) if field.name in self.keys else field for field in left]
        if self.kind in ("right outer", "full outer"):
            fields = [field.with_nullable(True) for field in fields]
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

        for side, schema in (("left", self.left.schema), ("right", self.right.schema)):
            require_carried(schema, f"the {side} side of a join")

    def _key(self, field: pa.Field[Any]) -> pa.Field[Any]:
        """The key as it comes out: the type of both sides, or the wider one."""
        other = self.right.schema.field(field.name).type
        if pa.types.is_integer(field.type) and other != field.type:
            return pa.field(field.name, _wider(field.type, other), nullable=True)
        return field.with_nullable(True)

    def narrow_each(self, wanted: frozenset[str]) -> tuple[Node, tuple[frozenset[str] | None, ...]]:
        # The names on the right depend on those on the left, so both sides keep what is shared.
        shared = frozenset(self.left.schema.names) & frozenset(self.right.schema.names)
        left = frozenset(name for name in self.left.schema.names if name in wanted) | shared
        right = frozenset(name for name in self.right.schema.names if name in wanted) | shared
        return self, (left | frozenset(self.keys), right | frozenset(self.keys))

    def execute(self, inputs: Sequence[Input]) -> Iterator[pa.RecordBatch]:
        left, right = (
            Rows(node.schema.append(pa.field(self._place, pa.int64())), _placed(given.batches, self._place))
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
            f"ORDER BY l.{_quoted(self._place)} NULLS LAST, r.{_quoted(self._place)} NULLS LAST"
        )

    @property
    def _place(self) -> str:
        """The column by which the result is ordered; no side has one of that name."""
        return max((PLACE, *self.left.schema.names, *self.right.schema.names), key=len) + "_"

    def identity(self) -> dict[str, object]:
        return {"keys": self.keys, "kind": self.kind}

    def describe(self) -> str:
        return f"Join {self.kind} on {', '.join(self.keys)}"


def _placed(batches: Callable[[], Iterator[pa.RecordBatch]], name: str) -> Callable[[], Iterator[pa.RecordBatch]]:
    """The batches with the place of each row as a column."""

    def with_places() -> Iterator[pa.RecordBatch]:
        place = 0
        for batch in batches():
            places = pa.array(np.arange(place, place + batch.num_rows))
            place += batch.num_rows
            yield batch.append_column(name, places)

    return with_places


def _wider(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    """A type of whole numbers that holds both; uint64 beside a signed one needs a cast, so int64 is taken."""
    if left == pa.uint64() or right == pa.uint64():
        return pa.uint64() if pa.types.is_unsigned_integer(left) and pa.types.is_unsigned_integer(right) else pa.int64()
    promoted = np.promote_types(left.to_pandas_dtype(), right.to_pandas_dtype())
    return pa.from_numpy_dtype(promoted)


def _comparable(left: pa.DataType, right: pa.DataType) -> bool:
    families = (
        pa.types.is_integer,
        lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind),
        lambda kind: pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind),
    )
    return any(family(left) and family(right) for family in families)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
