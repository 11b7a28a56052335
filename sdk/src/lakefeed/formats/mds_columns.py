"""Columns of MDS shards: the encodings of values, by the types of columns or as the caller wishes.

Values are encoded a column at a time, to the bytes that ``MDSWriter`` writes for each of them.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakefeed._arrow import compute as pc
from lakefeed.errors import ColumnNotFoundError, InvalidArgumentError, TypeMismatchError, quoted_list

Numbers: TypeAlias = NDArray[Any]
Samples: TypeAlias = pa.LargeBinaryArray
"""The bytes of each sample, or of each value of a column."""
NUMBER_TYPES: Final[Mapping[str, pa.DataType]] = {
    **{f"{sign}int{bits}": getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": getattr(pa, f"float{bits}")() for bits in (16, 32, 64)},
    "int": pa.int64(),
}
TEXT_OF: Final = {"str_int": int, "str_float": float, "str_decimal": Decimal}
"""Encodings of numbers as text, and the Python type whose text it is."""
BYTES_ENCODINGS: Final = ("bytes", "jpeg", "png")
"""Of a JPEG or PNG file, the bytes of the file are the encoding of the image."""
ENCODINGS: Final = (
    "str",
    *BYTES_ENCODINGS,
    "json",
    *NUMBER_TYPES,
    *TEXT_OF,
    "ndarray:<dtype>",
    "ndarray:<dtype>:<shape>",
)
ARRAY_ENCODING: Final = re.compile(r"ndarray:(\w+)(?::([1-9]\d*(?:,[1-9]\d*)*))?")
SIZE_TYPES: Final[tuple[Any, ...]] = (np.uint8, np.uint16, np.uint32, np.uint64)
"""The types in which the sizes of arrays of varying shape are written; the first that fits is used."""


@dataclass(frozen=True)
class MDSColumn:
    """A column.

    Attributes:
        name: the name.
        kind: the type of the values that are encoded.
        encoding: the encoding, as the index names it.
        size: the bytes of each value; None if they vary.
    """

    name: str
    kind: pa.DataType
    encoding: str
    size: int | None

    @classmethod
    def of(cls, field: pa.Field[Any], encoding: str | None = None) -> MDSColumn:
        """Returns the column for a field.

        Args:
            field: the field.
            encoding: the encoding. None chooses it: numbers, text, bytes and tensors keep their types, all else is
                JSON.

        Raises:
            InvalidArgumentError: the encoding does not exist.
            TypeMismatchError: it has no form for values of the type.
        """
        kind = _plain_type(field.type)
        if encoding is None:
            return cls._by_type(field.name, kind)
        if encoding in NUMBER_TYPES:
            target = NUMBER_TYPES[encoding]
            if _is_number(kind) or pa.types.is_boolean(kind):
                return cls(field.name, target, encoding, target.bit_width // 8)
        elif encoding.startswith("ndarray:"):
            return cls._array(field.name, kind, encoding)
        elif encoding in TEXT_OF:
            if _TEXT_OF_KIND[encoding](kind):
                return cls(field.name, kind, encoding, None)
        elif encoding == "str":
            if _is_text(kind):
                return cls(field.name, kind, encoding, None)
        elif encoding in BYTES_ENCODINGS:
            if _is_bytes(kind) or (encoding == "bytes" and _is_text(kind)):
                return cls(field.name, pa.large_binary(), encoding, None)
        elif encoding == "json":
            return cls(field.name, kind, encoding, None)
        else:
            raise _unknown_encoding(field.name, encoding)
        raise _unfit_encoding(field.name, kind, encoding)

    @classmethod
    def _by_type(cls, name: str, kind: Any) -> MDSColumn:
        if _is_number(kind):
            dtype = np.dtype(kind.to_pandas_dtype())
            return cls(name, kind, dtype.name, dtype.itemsize)
        if _is_text(kind) or _is_bytes(kind):
            return cls(name, kind, "str" if _is_text(kind) else "bytes", None)
        shape, leaf = _tensor_shape(kind)
        if math.prod(shape) and shape and _is_number(leaf):
            dtype = np.dtype(leaf.to_pandas_dtype())
            encoding = f"ndarray:{dtype.name}:{','.join(map(str, shape))}"
            return cls(name, kind, encoding, math.prod(shape) * dtype.itemsize)
        return cls(name, kind, "json", None)

    @classmethod
    def _array(cls, name: str, kind: Any, encoding: str) -> MDSColumn:
        match = ARRAY_ENCODING.fullmatch(encoding)
        if match is None or match[1] not in NUMBER_TYPES or match[1] == "int":
            raise _unknown_encoding(name, encoding)
        shape, leaf = _tensor_shape(kind)
        if not shape and (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
            leaf = kind.value_type
        elif not math.prod(shape) or not shape or (match[2] and _shape_in(match[2]) != shape):
            raise _unfit_encoding(name, kind, encoding)
        if not _is_number(leaf):
            raise _unfit_encoding(name, kind, encoding)
        width = NUMBER_TYPES[match[1]].bit_width // 8
        return cls(name, kind, encoding, math.prod(_shape_in(match[2])) * width if match[2] else None)

    def encode(self, column: Any, first_row: int) -> tuple[Samples, NDArray[np.uint32] | None]:
        """Returns the bytes of the values, and their sizes if these vary; ``first_row`` is for messages."""
        column = _plain_column(column)
        if self.encoding.startswith("ndarray"):
            values = self._arrays(column, first_row)
        elif self.encoding in NUMBER_TYPES:
            values = fixed_size(self._numbers(self._cast(column, self.kind), first_row), self.kind.bit_width // 8)
        else:
            values = self._texts(column, first_row).cast(pa.large_binary())
        if self.size is not None:
            return values, None
        return values, np.array(pc.binary_length(values), np.int64).astype(np.uint32)

    def _texts(self, column: Any, first_row: int) -> Any:
        if self.encoding == "json":
            return pa.array(self._json(column), pa.large_binary())
        self._check_nulls(column, first_row)
        if self.encoding in TEXT_OF:
            kind = TEXT_OF[self.encoding]
            return pa.array([str(kind(value)) for value in column.to_pylist()], pa.large_string())
        return column.cast(pa.large_string() if _is_text(self.kind) else pa.large_binary())

    def _numbers(self, column: Any, first_row: int) -> Numbers:
        if not pa.types.is_floating(column.type):
            self._check_nulls(column, first_row)
        return _leaf_numbers(column)

    def _arrays(self, column: Any, first_row: int) -> Any:
        """Returns arrays as bytes. Those of a shape that the encoding does not tell begin with their shape."""
        self._check_nulls(column, first_row)
        _, dtype, *shape = self.encoding.split(":")
        target = NUMBER_TYPES[dtype]
        if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
            values = _tensor_values(column)
            numbers = values.reshape(-1)
            if values.dtype.name != dtype:
                numbers = _leaf_numbers(self._cast(pa.array(numbers), target))
            data = fixed_size(numbers, math.prod(values.shape[1:]) * target.bit_width // 8)
            return data if shape else _after_header([_array_header(values.shape[1:])] * len(data), data)
        lengths = np.array(pc.list_value_length(column), np.int64)
        wanted = math.prod(_shape_in(shape[0])) if shape else None
        wrong = np.flatnonzero(lengths == 0 if wanted is None else lengths != wanted)
        if len(wrong):
            needed = "at least one value" if wanted is None else f"{wanted} values"
            raise TypeMismatchError(
                f"column {self.name!r}: the list in row {first_row + wrong[0]} has {lengths[wrong[0]]} values, and "
                f"{self.encoding!r} needs {needed}"
            )
        flat = column.flatten()
        if flat.null_count and not pa.types.is_floating(flat.type):
            raise self._null_error("")
        numbers = _leaf_numbers(self._cast(flat, target))
        data = _variable_size(numbers, lengths)
        return data if shape else _after_header([_array_header([each]) for each in lengths.tolist()], data)

    def _cast(self, column: Any, target: pa.DataType) -> Any:
        if column.type == target:
            return column
        try:
            return pc.cast(column, target)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise TypeMismatchError(
                f"column {self.name!r} of type {column.type} has a value that {self.encoding!r} cannot hold: {error}"
            ) from error

    def _check_nulls(self, column: Any, first_row: int) -> None:
        inside = False
        while column.null_count == 0 and isinstance(column, pa.FixedSizeListArray | pa.FixedShapeTensorArray):
            column = (column.storage if isinstance(column, pa.FixedShapeTensorArray) else column).flatten()
            inside = True
            if pa.types.is_floating(column.type):
                return
        if column.null_count:
            row = first_row + pc.index(column.is_null(), True).as_py()
            raise self._null_error("" if inside else f" in row {row}")

    def _null_error(self, where: str) -> TypeMismatchError:
        return TypeMismatchError(
            f"column {self.name!r} of type {self.kind} holds null{where}, for which MDS has no value; leave such "
            f'rows out (filter("{self.name} is not null")) or fill them (map)'
        )

    def _json(self, column: Any) -> list[bytes]:
        try:
            return [json.dumps(value, default=_to_json).encode() for value in column.to_pylist()]
        except (ValueError, TypeError, OverflowError, LookupError) as error:  # also times that Python lacks
            raise TypeMismatchError(f"column {self.name!r} of type {self.kind} has no JSON: {error}") from error


def columns_of(schema: pa.Schema, encodings: Mapping[str, str]) -> tuple[MDSColumn, ...]:
    """Returns the columns of rows, in the order of their names.

    Args:
        schema: the columns of the rows.
        encodings: the encodings of columns that do not get those of their types.

    Raises:
        ColumnNotFoundError, InvalidArgumentError, TypeMismatchError: an encoding does not fit.
    """
    for name in encodings:
        if name not in schema.names:
            raise ColumnNotFoundError.of(name, schema.names)
    return tuple(MDSColumn.of(schema.field(name), encodings.get(name)) for name in sorted(schema.names))


def _unknown_encoding(name: str, encoding: str) -> InvalidArgumentError:
    known = quoted_list(ENCODINGS, len(ENCODINGS))
    return InvalidArgumentError(f"encodings: column {name!r} has the encoding {encoding!r:.80}; choose one of {known}")


def _unfit_encoding(name: str, kind: pa.DataType, encoding: str) -> TypeMismatchError:
    return TypeMismatchError(f"encodings: {encoding!r} has no form for column {name!r} of type {kind}")


def _shape_in(text: str) -> list[int]:
    return [int(size) for size in text.split(",")]


def _array_header(shape: Sequence[int]) -> bytes:
    """Returns the bytes that tell the shape of an array: the number of axes and the size of numbers, and the sizes."""
    code, dtype = next((code, dtype) for code, dtype in enumerate(SIZE_TYPES) if max(shape) <= int(np.iinfo(dtype).max))
    return bytes([len(shape) << 2 | code]) + np.array(shape, dtype).tobytes()


def _after_header(headers: list[bytes], data: Any) -> Any:
    kind = pa.large_binary()
    return pc.binary_join_element_wise(pa.array(headers, kind), data, pa.scalar(b"", kind))


def _variable_size(numbers: Numbers, lengths: NDArray[np.int64]) -> Any:
    """Returns numbers as binary values of so many numbers each."""
    data = np.ascontiguousarray(numbers)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]) * data.itemsize
    buffers = [None, pa.py_buffer(offsets.data), pa.py_buffer(data.data)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(lengths), buffers)


def fixed_size(numbers: Numbers, size: int) -> Any:
    """Returns numbers as binary values of ``size`` bytes each."""
    data = np.ascontiguousarray(numbers)
    count = data.nbytes // size
    offsets = np.arange(count + 1, dtype=np.int64) * size
    buffers = [None, pa.py_buffer(offsets.data), pa.py_buffer(data.data)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), count, buffers)


def _leaf_numbers(column: Any) -> Numbers:
    if column.null_count:  # of floats: NaN
        return np.array(column.to_numpy(zero_copy_only=False), dtype=column.type.to_pandas_dtype())
    return np.array(np.from_dlpack(column)) if len(column) else np.empty(0, column.type.to_pandas_dtype())


def _tensor_values(column: Any) -> Numbers:
    rows, kind = len(column), column.type
    shape = kind.shape if isinstance(kind, pa.FixedShapeTensorType) else _tensor_shape(kind)[0]
    inner = column.storage if isinstance(kind, pa.FixedShapeTensorType) else column
    while isinstance(inner, pa.FixedSizeListArray):
        inner = inner.flatten()
    values = _leaf_numbers(inner).reshape(rows, *shape)
    order = getattr(kind, "permutation", None)
    return values if order is None else values.transpose(0, *(axis + 1 for axis in order))


def _tensor_shape(kind: Any) -> tuple[list[int], pa.DataType]:
    """Returns the shape of tensors, which is empty for other types, and the type of their numbers."""
    if isinstance(kind, pa.FixedShapeTensorType):
        order = kind.permutation or range(len(kind.shape))
        return [kind.shape[axis] for axis in order], kind.value_type
    shape = []
    while pa.types.is_fixed_size_list(kind):
        shape.append(kind.list_size)
        kind = kind.value_type
    return shape, kind


def _plain_type(kind: Any) -> Any:
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _plain_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType) and not isinstance(kind, pa.FixedShapeTensorType):
        return _plain_type(kind.storage_type)
    return kind


def _plain_column(column: Any) -> Any:
    if isinstance(column, pa.DictionaryArray):
        return _plain_column(column.dictionary_decode())
    if isinstance(column, pa.RunEndEncodedArray):
        return _plain_column(pc.run_end_decode(column))  # type: ignore[attr-defined]  # the stubs lack it
    if isinstance(column, pa.ExtensionArray) and not isinstance(column, pa.FixedShapeTensorArray):
        return _plain_column(column.storage)
    return column


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    return binary or pa.types.is_fixed_size_binary(kind)


def _to_json(value: Any) -> Any:
    """Returns a value for which JSON has no type: times in ISO 8601, bytes in base64, decimals and others as text."""
    match value:
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode()
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case dt.timedelta():
            return value.total_seconds()
        case Decimal():
            return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


_TEXT_OF_KIND: Final[Mapping[str, Callable[[pa.DataType], bool]]] = {
    "str_int": pa.types.is_integer,
    "str_float": pa.types.is_floating,
    "str_decimal": pa.types.is_decimal,
}
"""Which types have values for an encoding of numbers as text."""
