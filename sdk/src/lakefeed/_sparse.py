"""Sparse columns: rows of a matrix of which only the entries are stored.

A sparse column is a struct of two lists, ``indices`` and ``values``, that have the same length in each row. The number
of columns of the matrix is metadata of the field, so it is saved with a table and read back.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from lakefeed._validate import check_column_name, check_data_type, check_flag, is_whole
from lakefeed.errors import InvalidArgumentError, TypeMismatchError

WIDTH_KEY = b"lakefeed.width"
INDEX_TYPES = (pa.int32(), pa.int64())
FIELDS = ("indices", "values")
MAX_WIDTH = (1 << 31) - 1


def sparse_field(name: str, width: int, type: pa.DataType | None = None, *, nullable: bool = True) -> pa.Field[Any]:
    """Returns the field of a column of sparse rows, for a schema.

    The values of the column are structs of ``indices``, ascending positions below ``width``, and ``values``.
    ``to_torch`` gives such a column as one ``torch.sparse_csr`` tensor a batch.

    Args:
        name: the name of the column.
        width: the columns of the matrix.
        type: the Arrow type of the entries, of numbers or booleans. None is float32.
        nullable: whether a row may be null.

    Raises:
        InvalidArgumentError: an argument is malformed.

    Example:
        >>> schema = pa.schema([sparse_field("counts", 1000)])
        >>> rows = Dataset.from_dict({"counts": [{"indices": [3, 70], "values": [1.0, 2.0]}]}, schema)
        >>> rows
        Dataset(): 1 rows, counts: sparse[1000] of float
    """
    if not is_whole(width) or not 0 <= width <= MAX_WIDTH:
        raise InvalidArgumentError(f"width must be a whole number from 0 to {MAX_WIDTH}, got {width!r:.80}")
    kind = pa.float32() if type is None else check_data_type(type)
    if not is_number(kind):
        raise InvalidArgumentError(f"type must be a type of numbers or booleans, got {kind}")
    lists: list[pa.Field[Any]] = [pa.field("indices", pa.list_(pa.int32())), pa.field("values", pa.list_(kind))]
    metadata: dict[bytes | str, bytes | str] = {WIDTH_KEY: str(width)}
    return pa.field(
        check_column_name(name, "name"), pa.struct(lists), check_flag(nullable, "nullable"), metadata=metadata
    )


def sparse_width(field: pa.Field[Any]) -> int | None:
    """Returns the columns of the matrix whose rows a column holds; None if it is not sparse.

    Example:
        >>> sparse_width(sparse_field("counts", 1000)), sparse_width(pa.field("x", pa.int64()))
        (1000, None)
    """
    text = (field.metadata or {}).get(WIDTH_KEY)
    is_width = text is not None and text.isdigit() and len(text) <= len(str(MAX_WIDTH)) and int(text) <= MAX_WIDTH
    return int(text) if text is not None and is_width and is_sparse_type(field.type) else None


def is_sparse_type(kind: pa.DataType) -> bool:
    """Returns whether a sparse column may have the type."""
    if not pa.types.is_struct(kind) or tuple(each.name for each in kind) != FIELDS:
        return False
    indices, values = (kind.field(name).type for name in FIELDS)
    lists = all(isinstance(inner, pa.ListType | pa.LargeListType) for inner in (indices, values))
    return lists and indices.value_type in INDEX_TYPES and is_number(values.value_type)


def is_number(kind: pa.DataType) -> bool:
    """Returns whether the type is that of integers, floats or booleans."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def type_text(field: pa.Field[Any]) -> str:
    """Returns the type of a column as text: of a sparse column, the width and the type of its entries."""
    width = sparse_width(field)
    return str(field.type) if width is None else f"sparse[{width}] of {field.type.field('values').type.value_type}"


def ascends(bounds: Any, indices: Any) -> bool:
    """Returns whether the indices of each row ascend, so that none occurs twice.

    Args:
        bounds: where each row begins in ``indices``, and where the last one ends, as an array of NumPy.
        indices: the indices of all rows, as an array of NumPy.
    """
    steps = indices[1:] > indices[:-1]
    begins = bounds[1:-1]
    steps[begins[(begins > 0) & (begins < len(indices))] - 1] = True
    return bool(steps.all())


def field_of_copy(field: pa.Field[Any], copy: pa.Field[Any]) -> pa.Field[Any]:
    """Returns the field of a column whose values are those of another: with the width, if that one is sparse."""
    width = sparse_width(field)
    if width is None:
        return copy
    metadata: dict[bytes | str, bytes | str] = dict((copy.metadata or {}).items())
    return copy.with_metadata({**metadata, WIDTH_KEY: str(width)})


def check_widths(incoming: pa.Field[Any], declared: pa.Field[Any], where: str) -> None:
    """Checks that two columns are not sparse columns of different widths.

    Raises:
        TypeMismatchError: the widths differ.
    """
    given, known = sparse_width(incoming), sparse_width(declared)
    if None not in (given, known) and given != known:
        raise TypeMismatchError(
            f"{where}: sparse column {declared.name!r} has rows of {given} columns and rows of {known}; rows of one "
            "column have one width"
        )
