"""The categories of dictionary columns, stored in order in the metadata of the field.

Data files hold values only. Categories include those that no row has.
"""

from __future__ import annotations

import base64
from typing import Any

import pyarrow as pa

from lakefeed._arrow import compute as pc
from lakefeed._units import KIB, MIB
from lakefeed.errors import SchemaError

CATEGORIES = b"lakefeed.categories"
NARROW_INDICES = (pa.int8(), pa.int16(), pa.uint8(), pa.uint16())
MAX_UNORDERED_BYTES = 64 * KIB
"""The maximum size of unordered categories. Table metadata stores them, and every commit writes it again."""

MAX_ORDERED_BYTES = MIB


def widen_indices(schema: pa.Schema) -> pa.Schema:
    """Returns the schema with dictionary indices of at least 32 bits, since batches have dictionaries of their own."""
    metadata: Any = schema.metadata
    return pa.schema([widen_index(field) for field in schema], metadata)


def widen_index(field: pa.Field[Any]) -> pa.Field[Any]:
    """Returns the field with a dictionary index of at least 32 bits, if it is a dictionary column."""
    kind = field.type
    if not isinstance(kind, pa.DictionaryType) or kind.index_type not in NARROW_INDICES:
        return field
    wide: pa.DataType = pa.dictionary(pa.int32(), kind.value_type, kind.ordered)
    return field.with_type(wide)


def with_categories(table: pa.Table) -> pa.Table:
    """Returns the table with the categories of its dictionary columns in the metadata of their fields.

    Raises:
        SchemaError: ordered categories of a column take more than 1 MiB.
    """
    positions = [index for index, field in enumerate(table.schema) if isinstance(field.type, pa.DictionaryType)]
    for position in positions:
        field, column = _unify(table.schema.field(position), table.column(position))
        if column.num_chunks:
            table = table.set_column(position, _declare_chunk_categories(field, column.chunk(0)), column)
    return table


def _unify(field: pa.Field[Any], column: Any) -> tuple[pa.Field[Any], Any]:
    """Returns a column with one dictionary, and its field."""
    try:
        return field, column.unify_dictionaries()
    except pa.ArrowInvalid:  # the index is too narrow for the categories of all chunks together
        wide = widen_index(field)
        return wide, column.cast(wide.type).unify_dictionaries()


def _declare_chunk_categories(field: pa.Field[Any], chunk: Any) -> pa.Field[Any]:
    ordered = field.type.ordered
    if not ordered and chunk.dictionary.nbytes > MAX_UNORDERED_BYTES:
        return field
    if chunk.dictionary.nbytes > MAX_ORDERED_BYTES:
        raise SchemaError(
            f"column {field.name!r} has {len(chunk.dictionary)} ordered categories, which take more than "
            f"{MAX_ORDERED_BYTES // MIB} MiB; cast it to a plain column"
        )
    return declare_categories(field, chunk.dictionary.drop_null().unique())


def declare_categories(field: pa.Field[Any], categories: pa.Array[Any]) -> pa.Field[Any]:
    """Returns the field with these categories."""
    batch = pa.record_batch([categories], names=["categories"])
    packed = base64.b64encode(batch.schema.serialize().to_pybytes()) + b"." + base64.b64encode(batch.serialize())
    metadata: dict[Any, Any] = {**(field.metadata or {}), CATEGORIES: packed}
    return field.with_metadata(metadata)


def declared_categories(field: pa.Field[Any]) -> pa.Array[Any] | None:
    """Returns the categories that the field declares; None if it declares none."""
    packed = (field.metadata or {}).get(CATEGORIES)
    if packed is None or not isinstance(field.type, pa.DictionaryType):
        return None
    schema, batch = (pa.py_buffer(base64.b64decode(part)) for part in packed.split(b"."))
    values: pa.Array[Any] = pa.ipc.read_record_batch(batch, pa.ipc.read_schema(schema)).column(0)
    return values.cast(field.type.value_type)


def merge_categories(known: pa.Field[Any], incoming: pa.Field[Any]) -> pa.Field[Any]:
    """Returns ``known`` with the further categories of ``incoming`` appended; the same object if there are none."""
    own, more = declared_categories(known), declared_categories(incoming)
    if own is None or more is None:
        return known
    values: Any = more.cast(own.type)
    further = values.filter(pc.invert(pc.is_in(values, value_set=own)))
    return declare_categories(known, pa.concat_arrays([own, further])) if len(further) else known


def encode_categories(values: Any, field: pa.Field[Any]) -> pa.Array[Any]:
    """Encodes values with the dictionary of the field: declared categories, then others in order of appearance."""
    kind: Any = field.type
    plain = values.cast(kind.value_type)
    known = declared_categories(field)
    if known is None:
        encoded = plain.dictionary_encode()
        indices, dictionary = encoded.indices, encoded.dictionary
    else:
        indices = pc.index_in(plain, value_set=known)
        others = plain.filter(pc.and_(indices.is_null(), plain.is_valid())).unique()
        dictionary = pa.concat_arrays([known, others]) if len(others) else known
        indices = pc.index_in(plain, value_set=dictionary) if len(others) else indices
    array: pa.Array[Any] = pa.DictionaryArray.from_arrays(
        indices.cast(kind.index_type), dictionary, ordered=kind.ordered
    )
    return array
