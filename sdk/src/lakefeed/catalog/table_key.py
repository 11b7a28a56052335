"""The key of a table: the columns of which the values identify a row.

Iceberg names them identifier fields; they are required. The sort order of the table gives their order.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER, NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.transforms import IdentityTransform


def key_columns(table: Table, schema: Schema | None = None) -> tuple[str, ...]:
    """Returns the names of the key columns in the order of the key; none if the table has no key.

    Args:
        table: the table.
        schema: the schema whose names are meant, for keys may be renamed; None for the current one.
    """
    schema = table.schema() if schema is None else schema
    identifiers = set(schema.identifier_field_ids)
    order = table.metadata.sort_order_by_id(table.metadata.default_sort_order_id) or UNSORTED_SORT_ORDER
    ordered = [field.source_id for field in order.fields if field.source_id in identifiers]
    if set(ordered) != identifiers:  # another program has declared the key
        ordered = [field.field_id for field in schema.fields if field.field_id in identifiers]
    return tuple(schema.find_field(field_id).name for field_id in ordered)


def keyed_schema(schema: Schema, key: Sequence[str]) -> Schema:
    """Returns the Iceberg schema with the columns ``key`` as identifier fields."""
    if not key:
        return schema
    identifiers = [schema.find_field(name).field_id for name in key]
    return Schema(*schema.fields, schema_id=schema.schema_id, identifier_field_ids=identifiers)


def key_order(schema: Schema, key: Sequence[str]) -> SortOrder:
    """Returns the sort order of rows by their key, ascending."""
    if not key:
        return UNSORTED_SORT_ORDER
    fields = (
        SortField(
            source_id=schema.find_field(name).field_id,
            transform=IdentityTransform(),
            direction=SortDirection.ASC,
            null_order=NullOrder.NULLS_FIRST,
        )
        for name in key
    )
    return SortOrder(*fields, order_id=1)
