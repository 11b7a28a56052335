"""Changes of columns that follow from the rows of a write, in the same commit.

A column that is null in every row has no type yet. The first rows with values decide it
(:mod:`lakefeed.catalog.null_types`). A column of categories gets the new categories of its rows. Both change the
schema, so older versions stay as they were.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
from pyiceberg.table import Table
from pyiceberg.table.update import TableUpdate
from pyiceberg.types import NestedField

from lakefeed.catalog.categories import merge_categories
from lakefeed.catalog.column_schema import apply_updates
from lakefeed.catalog.null_types import decide_field, decide_iceberg_field, unique_comment
from lakefeed.catalog.schema import declared_schema, media_of
from lakefeed.catalog.schema_evolution import Columns, columns_of, evolution_updates
from lakefeed.catalog.snapshot_builder import Contents
from lakefeed.errors import CommitConflictError


@dataclass(frozen=True)
class ColumnDecision:
    """The columns of a table after a write.

    Attributes:
        table: the table with the new columns.
        updates: the updates that change the columns; none if they do not change.
        previous_schema_id: the schema before.
    """

    table: Table
    updates: tuple[TableUpdate, ...] = ()
    previous_schema_id: int = 0

    @property
    def declared(self) -> pa.Schema:
        """The columns."""
        return declared_schema(self.table)

    def contents(self, contents: Contents) -> Contents:
        """Returns the contents with the schema of these columns."""
        return replace(contents, schema_id=self.table.metadata.current_schema_id) if self.updates else contents

    def remaining_updates(self, current: Table) -> tuple[TableUpdate, ...]:
        """Returns the updates that the current table still needs. Files that were written match its columns.

        Raises:
            CommitConflictError: another writer has changed the columns differently.
        """
        if not self.updates or current.metadata.current_schema_id == self.previous_schema_id:
            return self.updates
        present = {(field.field_id, field.name, field.field_type) for field in current.schema().fields}
        if all((field.field_id, field.name, field.field_type) in present for field in self.table.schema().fields):
            return ()
        raise CommitConflictError(
            f"another writer has decided types of columns of {current.name()[-1]!r}; nothing was written. Write these "
            "rows again"
        )


def decide_columns(table: Table, incoming: pa.Schema | None) -> ColumnDecision:
    """Returns the columns of a table after rows of the schema ``incoming`` are written.

    Raises:
        TypeMismatchError: a type cannot be stored.
    """
    if incoming is None:
        return ColumnDecision(table)
    columns = columns_of(table)
    next_id = itertools.count(table.metadata.last_column_id + 1).__next__
    incoming_fields = {field.name: field for field in incoming}
    fields, declared = [], {}
    for field in columns.fields:
        known = columns.declared[field.name]
        new, declared[field.name] = _decide_column(field, known, incoming_fields.get(field.name, known), next_id)
        fields.append(new)
    if all(new is old for new, old in zip(fields, columns.fields, strict=True)):
        return ColumnDecision(table)
    media = {**columns.media, **media_of(pa.schema(list(declared.values())))}
    after = Columns(tuple(fields), declared, media, columns.dropped_media)
    _, updates = evolution_updates(table, after)
    return ColumnDecision(apply_updates(table, updates), updates, table.metadata.current_schema_id)


def _decide_column(
    field: NestedField, known: pa.Field[Any], incoming: pa.Field[Any], next_id: Callable[[], int]
) -> tuple[NestedField, pa.Field[Any]]:
    """Returns a column after rows of the field ``incoming``, as an Iceberg field and as a declared Arrow field."""
    decided = decide_field(known, incoming)
    if decided is not known:
        return decide_iceberg_field(field, known, decided, next_id), decided
    wider = merge_categories(known, incoming)
    if wider is known:
        return field, known
    return field.model_copy(update={"doc": unique_comment(field, "more categories")}), wider
