"""Iceberg types become the Arrow types that PyIceberg makes of them; nothing on the way to rows loads pandas."""

from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
import pytest
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.schema import Schema
from pyiceberg.types import (
    DecimalType,
    FixedType,
    GeographyType,
    GeometryType,
    ListType,
    LongType,
    MapType,
    NestedField,
    PrimitiveType,
    StringType,
    StructType,
)

from lakefeed import Dataset
from lakefeed.catalog.arrow_types import arrow_fields
from lakefeed.catalog.lake import Lake


def test_every_type_is_what_pyiceberg_makes_of_it() -> None:
    made = {FixedType: FixedType(3), DecimalType: DecimalType(20, 4)}
    kinds = [made[kind] if kind in made else kind() for kind in PrimitiveType.__subclasses__()]
    assert {GeometryType(), GeographyType()} < set(kinds)
    inner = StructType(NestedField(101, "x", LongType(), required=True), NestedField(102, "y", StringType()))
    kinds += [
        inner,
        ListType(103, inner, element_required=False),
        MapType(104, StringType(), 105, ListType(106, LongType(), True), value_required=False),
    ]
    schema = Schema(*(NestedField(place, f"c{place}", kind) for place, kind in enumerate(kinds, 1)))
    assert pa.schema(arrow_fields(schema)).equals(schema_to_pyarrow(schema), check_metadata=True)


@pytest.mark.live
def test_reading_a_saved_dataset_loads_no_pandas(lake: Lake) -> None:
    inner = pa.array([{"x": 1, "y": [1.5]}, None], pa.struct([("x", pa.int64()), ("y", pa.list_(pa.float32()))]))
    Dataset.from_dict({"id": [1, 2], "text": ["a", None], "inner": inner, "vector": [[1.0], [2.0, 3.0]]}).save("kinds")
    read = "rows = Dataset('kinds').filter(\"id in (1, 2) or text in ('a', 'b')\").to_arrow().num_rows"
    load = "batches = [batch for batch in Dataset('kinds').to_torch(batch_size=1)]"
    code = f"import sys; from lakefeed import Dataset; {read}; {load}; "
    code += "print(rows, len(batches), 'pandas' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert printed.split() == ["2", "2", "False"]
