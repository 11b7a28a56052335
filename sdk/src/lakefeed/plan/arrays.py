"""Python values as Arrow arrays, nothing cut off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa


def exact_array(values: Sequence[Any], kind: pa.DataType) -> pa.Array[Any]:
    """The values as an array of the type. Unlike Arrow's own, 0.5 does not become the integer 0.

    Raises:
        ArrowInvalid, ArrowTypeError, ArrowNotImplementedError, TypeError, OverflowError: a value does not fit.
    """
    array: pa.Array[Any] = pa.array(values, kind)
    if _holds(kind, pa.types.is_integer, pa.types.is_temporal):
        _check_fractions(values, kind)
    return array


def _check_fractions(values: Sequence[Any], kind: pa.DataType) -> None:
    try:
        inferred: pa.Array[Any] = pa.array(values)
        if _holds(inferred.type, pa.types.is_floating):
            inferred.cast(kind)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        # Anything else only says that the values need the type to make sense.
        if "truncated" in str(error):
            raise


def _holds(kind: pa.DataType, *tests: Any) -> bool:
    """Whether the type, or one inside it, passes one of the tests."""
    inside = [kind]
    while inside:
        one = inside.pop()
        if any(test(one) for test in tests):
            return True
        inside.extend(one.field(place).type for place in range(one.num_fields))
    return False
