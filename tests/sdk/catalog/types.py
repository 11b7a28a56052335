"""Arrow types that a dataset keeps exactly, each with values that would show a loss."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import pyarrow as pa

D = decimal.Decimal
DAY = dt.date(2026, 2, 28)
NOON = dt.time(12, 0, 1)
NOW = dt.datetime(2026, 2, 28, 12, 0, 1)
AWARE = NOW.replace(tzinfo=dt.UTC)

EXACT: dict[str, tuple[pa.DataType, list[Any]]] = {
    "bool": (pa.bool_(), [True, False]),
    "int8": (pa.int8(), [-128, 127]),
    "int16": (pa.int16(), [-(2**15), 2**15 - 1]),
    "int32": (pa.int32(), [-(2**31), 2**31 - 1]),
    "int64": (pa.int64(), [-(2**63), 2**63 - 1]),
    "uint8": (pa.uint8(), [0, 255]),
    "uint16": (pa.uint16(), [0, 2**16 - 1]),
    "uint32": (pa.uint32(), [0, 2**32 - 1]),
    "uint64": (pa.uint64(), [0, 2**64 - 1]),
    "float16": (pa.float16(), [1.5, -0.25]),
    "float32": (pa.float32(), [1.5, float("inf")]),
    "float64": (pa.float64(), [0.1, -1e300]),
    "string": (pa.string(), ["", "ü" * 40]),
    "large_string": (pa.large_string(), ["a", "b"]),
    "string_view": (pa.string_view(), ["a", "longer than twelve bytes"]),
    "binary": (pa.binary(), [b"", b"\x00" * 40]),
    "large_binary": (pa.large_binary(), [b"a", b"b"]),
    "binary_view": (pa.binary_view(), [b"a", b"longer than twelve bytes"]),
    "fixed_size_binary": (pa.binary(3), [b"abc", b"def"]),
    "date32": (pa.date32(), [DAY, dt.date(1, 1, 1)]),
    "date64": (pa.date64(), [DAY, dt.date(1969, 12, 31)]),
    "time32[s]": (pa.time32("s"), [NOON, dt.time(0)]),
    "time32[ms]": (pa.time32("ms"), [NOON.replace(microsecond=1000), dt.time(0)]),
    "time64[us]": (pa.time64("us"), [NOON.replace(microsecond=1), dt.time(0)]),
    "time64[ns]": (pa.time64("ns"), [1, 86_399_999_999_999]),
    "timestamp[s]": (pa.timestamp("s"), [NOW, dt.datetime(1, 1, 1)]),
    "timestamp[ms]": (pa.timestamp("ms"), [NOW.replace(microsecond=1000), NOW]),
    "timestamp[us]": (pa.timestamp("us"), [NOW.replace(microsecond=1), NOW]),
    "timestamp[ns]": (pa.timestamp("ns"), [1, -1]),
    "timestamp[s, UTC]": (pa.timestamp("s", "UTC"), [AWARE, AWARE]),
    "timestamp[us, Berlin]": (pa.timestamp("us", "Europe/Berlin"), [AWARE, AWARE]),
    "timestamp[ns, offset]": (pa.timestamp("ns", "+02:00"), [1, -1]),
    "duration[s]": (pa.duration("s"), [1, -1]),
    "duration[ns]": (pa.duration("ns"), [1, -1]),
    "decimal32": (pa.decimal32(5, 2), [D("123.45"), D("-0.01")]),
    "decimal64": (pa.decimal64(12, 2), [D("123.45"), D("-0.01")]),
    "decimal128": (pa.decimal128(38, 10), [D("123.4500000000"), D("-1.0000000000")]),
    "decimal256": (pa.decimal256(30, 2), [D("123.45"), D("-0.01")]),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), ["a", "b"]),
    "ordered dictionary": (pa.dictionary(pa.int64(), pa.large_string(), ordered=True), ["a", "b"]),
    "dictionary of numbers": (pa.dictionary(pa.uint32(), pa.int64()), [1, 2]),
    "uuid": (pa.uuid(), [b"0" * 16, b"1" * 16]),
    "json": (pa.json_(), ['{"a": 1}', "[]"]),
    "tensor": (pa.fixed_shape_tensor(pa.float32(), (2, 2)), [[1, 2, 3, 4], [5, 6, 7, 8]]),
    "list": (pa.list_(pa.int8()), [[1, None], []]),
    "large_list": (pa.large_list(pa.uint16()), [[1], []]),
    "fixed_size_list": (pa.list_(pa.float32(), 2), [[1.0, None], [3.0, 4.0]]),
    "list of fixed": (pa.list_(pa.list_(pa.float16(), 2)), [[[1.0, 2.0], None], []]),
    "list of dictionary": (pa.list_(pa.dictionary(pa.int32(), pa.string())), [["a", "b"], ["a"]]),
    "list of tensor": (pa.list_(pa.fixed_shape_tensor(pa.float32(), (2,))), [[[1, 2]], []]),
    "struct": (
        pa.struct([("a", pa.uint8()), ("b", pa.struct([("c", pa.large_string()), ("d", pa.timestamp("ns"))]))]),
        [{"a": 255, "b": {"c": "x", "d": 1}}, {"a": None, "b": None}],
    ),
    "map": (pa.map_(pa.string(), pa.list_(pa.uint8(), 2)), [[("k", [1, 2])], []]),
    "list of struct": (pa.list_(pa.struct([("box", pa.list_(pa.int16(), 4))])), [[{"box": [1, 2, 3, 4]}], []]),
}


def column(kind: pa.DataType, values: list[Any]) -> pa.Array:
    """The values and a null; extension types from their storage."""
    storage = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    if isinstance(kind, pa.ListType) and isinstance(kind.value_type, pa.BaseExtensionType):
        return pa.array([*values, None], pa.list_(kind.value_type.storage_type)).cast(kind)
    array = pa.array([*values, None], storage)
    return kind.wrap_array(array) if isinstance(kind, pa.BaseExtensionType) else array
