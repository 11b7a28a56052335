"""The evaluation of expressions on a batch with Arrow kernels.

The semantics of the filter language:

- Null is as in SQL: a comparison with null is null, ``and``, ``or`` and ``not`` follow three-valued logic, and an
  element beyond the end of a list is null. ``in ()`` is null for null and false otherwise.
- NaN is as in IEEE 754: it is unequal to everything, including itself, and neither less nor greater.
  ``x != x`` finds it.
- Integers of different types are compared exactly, an integer with a float as float64, dates with timestamps at
  midnight, naive literals beside a column with a time zone as UTC. float32 and float16 columns take literals in
  their own precision. Beside timestamp[ns] a time before 1677 or after 2262 counts as the first or last there.
- Arithmetic is in int64 where both sides are integers, and gives null where the result does not fit. ``/``, and
  all arithmetic with floats or decimals, is in float64. Division by zero, also with ``%``, gives null; ``%`` has
  the sign of its left side.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any, assert_never

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakefeed._arrow import compute
from lakefeed.errors import ColumnNotFoundError
from lakefeed.expr.comparison_types import NS_MAX, kernel_type, kind, last_in_ns, may_overflow
from lakefeed.expr.like import Wildcard, parse_pattern
from lakefeed.expr.literals import INT64_MAX
from lakefeed.expr.nodes import (
    And,
    Arithmetic,
    ArithmeticOp,
    Column,
    Compare,
    CompareOp,
    Concat,
    Expr,
    In,
    IsNull,
    Like,
    Literal,
    Not,
    Or,
    dtype,
    roots,
)
from lakefeed.expr.scalars import scalar

# The stubs lack some kernels, and overloads for a value that is an array or a scalar.
pc: Any = compute

FEW_CODES = 4
"""Up to so many true values of a dictionary, comparing all codes with each is faster than a lookup."""
# By name: the functions are imported when they are used.
_COMPARE: dict[CompareOp, str] = {
    "==": "equal",
    "!=": "not_equal",
    "<": "less",
    "<=": "less_equal",
    ">": "greater",
    ">=": "greater_equal",
}
_COMPARE_NUMPY: dict[CompareOp, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ARITHMETIC: dict[ArithmeticOp, str] = {
    "+": "add",
    "-": "subtract",
    "*": "multiply",
    "/": "divide",
    "%": "remainder",
}
_CHECKED: dict[ArithmeticOp, str] = {
    "+": "add_checked",
    "-": "subtract_checked",
    "*": "multiply_checked",
}
_PYTHON: dict[ArithmeticOp, Callable[[int, int], int]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def evaluate(expr: Expr, batch: pa.RecordBatch) -> pa.Array[Any]:
    """Returns the value of the expression for every row, in order: for a condition a boolean array with nulls.

    Thread-safe. The batch may hold more columns than the expression reads, and types that cast to the
    expression's without loss (``large_string`` for ``string``, dictionaries).

    Raises:
        ColumnNotFoundError: the batch lacks a column that the expression reads.

    Example:
        >>> batch = pa.record_batch({"x": [1, 5, None]})
        >>> evaluate(parse("x > 1", batch.schema), batch).to_pylist()
        [False, True, None]
    """
    coded = any(isinstance(column.type, pa.DictionaryType) for column in batch.schema)
    values: pa.Array[Any] = _broadcast(_evaluate_dictionaries(expr, batch) if coded else _value(expr, batch), batch)
    return values


def _evaluate_dictionaries(expr: Expr, batch: pa.RecordBatch) -> Any:
    """Returns the value; terms that read one dictionary are computed once for each of its values."""
    names = roots(expr)
    if len(names) == 1 and names <= set(batch.schema.names):
        column = batch.column(*names)
        if not isinstance(column, pa.DictionaryArray) or len(column.dictionary) >= len(column):
            return _value(expr, batch)
        return _evaluate_dictionary(expr, str(*names), column)
    match expr:
        case And():
            return reduce(pc.and_kleene, (_evaluate_dictionaries(term, batch) for term in expr.terms))
        case Or():
            return reduce(pc.or_kleene, (_evaluate_dictionaries(term, batch) for term in expr.terms))
        case Not():
            return pc.invert(_evaluate_dictionaries(expr.term, batch))
        case _:
            return _value(expr, batch)


def _evaluate_dictionary(expr: Expr, name: str, column: pa.DictionaryArray[Any, Any]) -> Any:
    values, indices = column.dictionary, column.indices
    if column.null_count:
        # One more value represents null.
        indices = indices.cast(pa.int64()).fill_null(len(values))
        values = pa.concat_arrays([values, pa.nulls(1, values.type)])
    results = _broadcast(_value(expr, pa.RecordBatch.from_arrays([values], names=[name])), values)
    if not pa.types.is_boolean(results.type):
        return results.take(indices)
    valid = None
    if results.null_count:
        valid, results = _take_bits(pc.is_valid(results), indices), results.fill_null(False)
    return pa.BooleanArray.from_buffers(pa.bool_(), len(indices), [valid, _take_bits(results, indices)])


def _take_bits(values: Any, indices: Any) -> pa.Buffer:
    """Returns the boolean values at the indices as bits; faster than to take single bits."""
    if not values.true_count:
        return pa.py_buffer(bytes(-(-len(indices) // 8)))
    lookup, codes = _to_numpy(values.cast(pa.uint8())), _to_numpy(indices)
    true = np.flatnonzero(lookup).tolist() if values.true_count <= FEW_CODES else []
    mask: NDArray[Any] = codes == true[0] if true else lookup.take(codes)
    for code in true[1:]:
        mask |= codes == code
    return _pack_bits(mask)


def _pack_bits(mask: NDArray[Any]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(mask, bitorder="little").data)


def _to_numpy(array: Any) -> NDArray[Any]:
    # Without to_numpy(), which imports pandas where it is installed.
    numbers: NDArray[Any] = np.from_dlpack(array)
    return numbers


def _compare(op: CompareOp, left: Any, right: Any) -> Any:
    numbers = isinstance(left, pa.NumericArray) and kind(left.type) in ("int", "float") and not left.null_count
    if not numbers or not isinstance(right, pa.Scalar) or not right.is_valid:
        return getattr(pc, _COMPARE[op])(left, right)
    # NumPy needs at most half the time, and comparisons dominate the cost of a filter after decoding.
    mask = _pack_bits(_COMPARE_NUMPY[op](_to_numpy(left), right.as_py()))
    return pa.BooleanArray.from_buffers(pa.bool_(), len(left), [None, mask])


def _value(expr: Expr, batch: pa.RecordBatch) -> Any:
    match expr:
        case Column():
            return _column(expr, batch)
        case Literal():
            return expr.scalar
        case Arithmetic():
            return _arithmetic(expr, _value(expr.left, batch), _value(expr.right, batch))
        case Concat():
            left, right = (_cast(_value(side, batch), expr.type) for side in (expr.left, expr.right))
            return pc.binary_join_element_wise(left, right, scalar("", expr.type))
        case Compare():
            left, right = _value(expr.left, batch), _value(expr.right, batch)
            return _compare(expr.op, _cast(left, expr.domain), _cast(right, expr.domain))
        case In():
            return _in(expr, _broadcast(_value(expr.term, batch), batch))
        case Like():
            return _like(_cast(_value(expr.term, batch), kernel_type(dtype(expr.term))), expr.pattern)
        case IsNull():
            return pc.is_null(_value(expr.term, batch))
        case Not():
            return pc.invert(_value(expr.term, batch))
        case And():
            return reduce(pc.and_kleene, (_value(term, batch) for term in expr.terms))
        case Or():
            return reduce(pc.or_kleene, (_value(term, batch) for term in expr.terms))
        case _:
            assert_never(expr)


def _broadcast(value: Any, rows: pa.RecordBatch | pa.Array[Any]) -> Any:
    if not isinstance(value, pa.Scalar):
        return value
    constant: Any = value
    return pa.repeat(constant, len(rows))


def _cast(value: Any, to: pa.DataType) -> Any:
    if value.type == to:
        return value
    if may_overflow(value.type, to):
        return _saturate(value, to)
    # A float64 cannot hold every int64: comparing rounds, as it does in SQL.
    return pc.cast(value, to, safe=not pa.types.is_float64(to))


def _saturate(value: Any, to: pa.DataType) -> Any:
    """Returns dates and timestamps as nanoseconds, clamped to the range of the type."""
    last = last_in_ns(value.type)
    after = pc.greater(value, scalar(last, value.type))
    before = pc.less(value, scalar(-last, value.type))
    inside = pc.if_else(pc.or_(before, after), scalar(None, value.type), value)
    ends = pc.if_else(after, scalar(NS_MAX, to), scalar(-NS_MAX, to))
    return pc.if_else(pc.or_(before, after), ends, pc.cast(inside, to))


def _column(column: Column, batch: pa.RecordBatch) -> Any:
    root, *steps = column.path
    index = batch.schema.get_field_index(str(root))
    if index < 0:
        raise ColumnNotFoundError.of(str(root), batch.schema.names, "the batch")
    values: Any = _decode(batch.column(index))
    for step in steps:
        values = _decode(_element(values, step) if isinstance(step, int) else _field(values, step))
    return _cast(values, column.type)


def _decode(array: Any) -> Any:
    if isinstance(array, pa.UuidArray):
        return array.storage
    if pa.types.is_dictionary(array.type):
        return _decode(array.cast(array.type.value_type))
    return pc.run_end_decode(array) if pa.types.is_run_end_encoded(array.type) else array


def _field(array: Any, name: str) -> Any:
    return pc.struct_field(array, [array.type.get_field_index(name)])


def _element(array: Any, index: int) -> Any:
    """Returns the element of every list at ``index``, from the end if negative; null beyond the list."""
    if pa.types.is_fixed_size_list(array.type):
        return pc.list_element(array, index % array.type.list_size)
    lengths = pc.list_value_length(array)
    inside = pc.greater(lengths, index) if index >= 0 else pc.greater_equal(lengths, -index)
    starts = array.offsets.slice(0, len(array))
    indices = pc.add(starts, index) if index >= 0 else pc.add(pc.add(starts, lengths), index)
    return array.values.take(pc.if_else(inside, indices, scalar(None, indices.type)))


def _in(expr: In, array: Any) -> Any:
    matches = pc.is_in(_cast(array, expr.domain), value_set=expr.value_set)
    if expr.nulls:
        matches = pc.if_else(matches, matches, scalar(None, pa.bool_()))
    return pc.if_else(array.is_valid(), matches, scalar(None, pa.bool_())) if array.null_count else matches


def _like(value: Any, pattern: str) -> Any:
    match parse_pattern(pattern):
        case ():
            return pc.equal(value, scalar("", value.type))
        case (str(whole),):
            return pc.equal(value, scalar(whole, value.type))
        case (str(start), Wildcard.ANY):
            return pc.starts_with(value, start)
        case (Wildcard.ANY, str(end)):
            return pc.ends_with(value, end)
        case (Wildcard.ANY, str(inner), Wildcard.ANY):
            return pc.match_substring(value, inner)
        case other:
            return pc.match_substring_regex(value, r"(?s)\A" + "".join(map(_regex, other)) + r"\z")


def _regex(part: str | Wildcard) -> str:
    if part is Wildcard.ANY:
        return ".*"
    # Characters by number, because RE2 and Python escape different ones.
    return "." if part is Wildcard.ONE else "".join(rf"\x{{{ord(char):x}}}" for char in str(part))


def _arithmetic(expr: Arithmetic, left: Any, right: Any) -> Any:
    whole = pa.types.is_integer(expr.type)
    left, right = (_int64(left), _int64(right)) if whole else (_cast(left, pa.float64()), _cast(right, pa.float64()))
    if expr.op in ("/", "%"):
        right = pc.if_else(pc.equal(right, scalar(0, right.type)), scalar(None, right.type), right)
    if not whole or expr.op == "%":
        return getattr(pc, _ARITHMETIC[expr.op])(left, right)
    try:
        return getattr(pc, _CHECKED[expr.op])(left, right)
    except pa.ArrowInvalid:
        return _without_overflow(_PYTHON[expr.op], left, right)


def _int64(value: Any) -> Any:
    if pa.types.is_uint64(value.type):
        fits = pc.less_equal(value, scalar(INT64_MAX, pa.uint64()))
        value = pc.if_else(fits, value, scalar(None, pa.uint64()))
    return _cast(value, pa.int64())


def _without_overflow(fn: Callable[[int, int], int], left: Any, right: Any) -> Any:
    """Computes row by row, null where the result does not fit int64; used for batches with such a row."""
    if isinstance(left, pa.Scalar) and isinstance(right, pa.Scalar):
        return _without_overflow(fn, pa.array([left.as_py()]), right)[0]
    rows = len(right) if isinstance(left, pa.Scalar) else len(left)
    sides = ([side.as_py()] * rows if isinstance(side, pa.Scalar) else side.to_pylist() for side in (left, right))
    results = (None if a is None or b is None else fn(a, b) for a, b in zip(*sides, strict=True))
    return pa.array([r if r is not None and -INT64_MAX - 1 <= r <= INT64_MAX else None for r in results], pa.int64())
