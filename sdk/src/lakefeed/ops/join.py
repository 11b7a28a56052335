"""Join: pairs the rows of two inputs that have equal keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import pyarrow as pa

from lakefeed._arrow import compute as pc
from lakefeed._rng import Indices
from lakefeed._validate import check_keys
from lakefeed.config import Settings
from lakefeed.errors import ColumnNotFoundError, InvalidArgumentError, TypeMismatchError, quoted_list
from lakefeed.plan import Input, Node
from lakefeed.sql import cast_column, duckdb_type, joined_positions, require_supported

JoinType: TypeAlias = Literal["inner", "left outer", "right outer", "full outer"]
JOIN_TYPES: tuple[JoinType, ...] = get_args(JoinType)
SUFFIX = "_right"
_SQL_JOINS = {"inner": "INNER", "left outer": "LEFT", "right outer": "RIGHT", "full outer": "FULL"}


@dataclass(frozen=True, eq=False, repr=False)
class Join(Node):
    """``left`` joined with ``right`` on ``keys``; each key appears once.

    A name that both sides have gets `SUFFIX` on the right.

    Rows come in the order of the left side, and for one left row in that of the right side. Right rows without a
    partner come last, in their order. Null keys have no partner; NaN equals NaN. Integer keys may have different
    widths; the result has the wider one.

    DuckDB gets the keys and finds the pairs of row positions, out of core; the rows are then read by position. So
    columns other than the keys may have any type and do not change, and only positions are sorted. 16 bytes for each
    row of the result are held in memory.
    """

    left: Node
    right: Node
    keys: tuple[str, ...]
    kind: JoinType
    settings: Settings

    @classmethod
    def of(cls, left: Node, right: Node, keys: Any, kind: JoinType, settings: Settings) -> Join:
        """Returns the node of ``join``.

        Raises:
            InvalidArgumentError: an argument is invalid.
            ColumnNotFoundError: a side lacks a key.
            TypeMismatchError: the types of a key cannot be compared.
        """
        return cls(left, right, check_keys(keys), kind, settings)

    @property
    def uses_disk(self) -> bool:
        return True

    def output_schema(self) -> pa.Schema:
        self._check()
        left, right = self.left.schema, self.right.schema
        fields = [self._key(field) if field.name in self.keys else field for field in left]
        if self.kind in ("right outer", "full outer"):
            fields = [field.with_nullable(True) for field in fields]
        names = set(left.names)
        for field in right:
            if field.name not in self.keys:
                name = field.name if field.name not in names else f"{field.name}{SUFFIX}"
                if name in names:
                    raise InvalidArgumentError(
                        f"both sides have {field.name!r} and {name!r}; select or rename columns before the join"
                    )
                names.add(name)
                fields.append(field.with_name(name).with_nullable(True))
        return pa.schema(fields)

    def _check(self) -> None:
        if self.kind not in JOIN_TYPES:
            raise InvalidArgumentError(f"unknown join_type {self.kind!r}; choose from {quoted_list(JOIN_TYPES)}")
        if not self.keys or len(set(self.keys)) < len(self.keys):
            raise InvalidArgumentError(f"keys must be one or several different columns, got {list(self.keys)}")
        for side, schema in (("left", self.left.schema), ("right", self.right.schema)):
            missing = [key for key in self.keys if key not in schema.names]
            if missing:
                raise ColumnNotFoundError.of(missing, schema.names, f"the {side} side of the join")
        for key in self.keys:
            left, right = self.left.schema.field(key).type, self.right.schema.field(key).type
            if left != right and not _are_comparable(left, right):
                raise TypeMismatchError(f"join key {key!r} is {left} on the left and {right} on the right; cast one")
            require_supported(pa.schema([self.left.schema.field(key), self.right.schema.field(key)]), "join")

    def _key(self, field: pa.Field[Any]) -> pa.Field[Any]:
        """Returns the key of the result: in the type of both sides, or the wider one."""
        other = self.right.schema.field(field.name).type
        if pa.types.is_integer(field.type) and other != field.type:
            return pa.field(field.name, _wider_integer(field.type, other), nullable=True)
        return field.with_nullable(True)

    def narrow_each(self, wanted: frozenset[str]) -> tuple[Node, tuple[frozenset[str] | None, ...]]:
        # The names on the right depend on those on the left, so both sides keep shared columns.
        shared = frozenset(self.left.schema.names) & frozenset(self.right.schema.names)
        left = frozenset(name for name in self.left.schema.names if name in wanted) | shared
        right = frozenset(name for name in self.right.schema.names if name in wanted) | shared
        return self, (left | frozenset(self.keys), right | frozenset(self.keys))

    def made_of(self, column: str) -> Sequence[tuple[int, str]]:
        if column in self.keys:
            return [(0, column), (1, column)]
        return [(0, column)] if column in self.left.schema.names else [(1, self._on_the_right(column))]

    def _on_the_right(self, column: str) -> str:
        return column if column in self.right.schema.names else column.removesuffix(SUFFIX)

    def execute(self, inputs: Sequence[Input]) -> Iterator[pa.RecordBatch]:
        left, right = (rows.reusable() for rows in inputs)
        pairs = joined_positions(
            self.settings,
            _SQL_JOINS[self.kind],
            self._key_batches(self.left, left),
            self._key_batches(self.right, right),
        )
        lefts, rights = _concatenate_pairs(pairs)
        for ours, theirs in _align_batches(left.at(lefts, gaps=True), right.at(rights, gaps=True)):
            yield self._row(ours, theirs)

    def _key_batches(self, node: Node, rows: Input) -> tuple[pa.Schema, Callable[[], Iterator[pa.RecordBatch]]]:
        return pa.schema([node.schema.field(key) for key in self.keys]), lambda: rows.batches(self.keys)

    def _row(self, ours: pa.RecordBatch, theirs: pa.RecordBatch) -> pa.RecordBatch:
        rest = [theirs.column(name) for name in theirs.schema.names if name not in self.keys]
        columns = [
            self._one_key(self.schema.field(name), column, theirs.column(name)) if name in self.keys else column
            for name, column in zip(ours.schema.names, ours.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays([*columns, *rest], schema=self.schema)

    def _one_key(self, field: pa.Field[Any], ours: pa.Array[Any], theirs: pa.Array[Any]) -> pa.Array[Any]:
        """Returns the key of whichever side has it."""
        if self.kind in ("inner", "left outer"):
            return cast_column(ours, field)
        values = field.with_type(duckdb_type(field.type))
        ours, theirs = cast_column(ours, values), cast_column(theirs, values)
        return cast_column(pc.if_else(ours.is_valid(), ours, theirs), field)

    def identity(self) -> dict[str, object]:
        return {"keys": self.keys, "kind": self.kind}

    def describe(self) -> str:
        return f"Join {self.kind} on {', '.join(self.keys)}"


def _concatenate_pairs(pairs: Iterator[tuple[Indices, Indices]]) -> tuple[Indices, Indices]:
    chunks = list(pairs) or [(np.empty(0, np.int64), np.empty(0, np.int64))]
    lefts, rights = zip(*chunks, strict=True)
    return np.concatenate(lefts), np.concatenate(rights)


def _align_batches(
    left: Iterator[pa.RecordBatch], right: Iterator[pa.RecordBatch]
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Yields two streams of equal length in batches of equal length."""
    theirs = next(right, None)
    for ours in left:
        while ours.num_rows:
            assert theirs is not None, "two streams of one length"
            rows = min(ours.num_rows, theirs.num_rows)
            yield ours.slice(0, rows), theirs.slice(0, rows)
            ours, theirs = ours.slice(rows), theirs.slice(rows)
            if not theirs.num_rows:
                theirs = next(right, None)


def _wider_integer(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    """Returns an integer type for both: int64 for uint64 with a signed type, which needs a cast to be safe."""
    if left == pa.uint64() or right == pa.uint64():
        return pa.uint64() if pa.types.is_unsigned_integer(left) and pa.types.is_unsigned_integer(right) else pa.int64()
    promoted = np.promote_types(left.to_pandas_dtype(), right.to_pandas_dtype())
    return pa.from_numpy_dtype(promoted)


def _are_comparable(left: pa.DataType, right: pa.DataType) -> bool:
    families = (
        pa.types.is_integer,
        lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind),
        lambda kind: pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind),
    )
    return any(family(left) and family(right) for family in families)
