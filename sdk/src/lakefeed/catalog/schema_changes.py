"""Differences between the columns of two versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lakefeed.catalog import schema

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.table import Table


@dataclass(frozen=True)
class SchemaChanges:
    """The differences between the columns of two versions. Columns are matched by field id.

    Attributes:
        added: the types of added columns, by name.
        dropped: the types of dropped columns, by name.
        renamed: the new names of renamed columns, by old name.
        retyped: the old and the new type of columns whose type changed, by new name.
    """

    added: Mapping[str, pa.DataType] = field(default_factory=dict)
    dropped: Mapping[str, pa.DataType] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    retyped: Mapping[str, tuple[pa.DataType, pa.DataType]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.added or self.dropped or self.renamed or self.retyped)


def schema_changes(table: Table, older: int | None, newer: int) -> SchemaChanges:
    """Returns the differences between two schemas of a table, by their ids. ``older=None`` has no columns."""
    before, after = _columns_by_id(table, older), _columns_by_id(table, newer)
    both = [(before[key], after[key]) for key in after if key in before]
    return SchemaChanges(
        added={column.name: column.type for key, column in after.items() if key not in before},
        dropped={column.name: column.type for key, column in before.items() if key not in after},
        renamed={old.name: new.name for old, new in both if old.name != new.name},
        retyped={new.name: (old.type, new.type) for old, new in both if old.type != new.type},
    )


def _columns_by_id(table: Table, schema_id: int | None) -> dict[int, pa.Field[Any]]:
    if schema_id is None:
        return {}
    declared = schema.declared_schema(table, schema_id=schema_id)
    return {each.field_id: declared.field(each.name) for each in table.schemas()[schema_id].fields}
