"""Columns that the rows of an action decide, in the action's own commit.

A column that was null in every row has no type, nor has an empty list: the first rows that have values there give it
one (:mod:`lakefeed.catalog.null_types`). A column of categories gets those that rows bring. Both are changes of the
schema, so older versions stay what they were.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
from pyiceberg.table import Table
from pyiceberg.table.update import TableUpdate, update_table_metadata
from pyiceberg.types import NestedField

from lakefeed.catalog.categories import merge_categories
from lakefeed.catalog.null_types import decide_field, decide_iceberg_field, unique_comment
from lakefeed.catalog.schema import declared_schema, media_of
from lakefeed.catalog.schema_evolution import Columns, columns_of, evolution_updates
from lakefeed.catalog.snapshot_builder import Contents
from lakefeed.errors import CommitConflictError


@dataclass(frozen=True)
class ColumnDecision:
    """The table with the columns as the action makes them, and the updates that do so (none: they are so already)."""

    table: Table
    updates: tuple[TableUpdate, ...] = ()
    before: int = 0
    """The schema that the table had."""

    @property
    def declared(self) -> pa.Schema:
        """The columns."""
        return declared_schema(self.table)

    def contents(self, contents: Contents) -> Contents:
        """The contents of a snapshot under these columns."""
        return replace(contents, schema_id=self.table.metadata.current_schema_id) if self.updates else contents

    def again(self, current: Table) -> tuple[TableUpdate, ...]:
        """The updates that are left, given the table as it is by now; the files that were written fit it.

        Raises:
            CommitConflictError: another writer has changed the columns in another way.
        """
        if not self.updates or current.metadata.current_schema_id == self.before:
            return self.updates
        there = {(field.field_id, field.name, field.field_type) for field in current.schema().fields}
        if all((field.field_id, field.name, field.field_type) in there for field in self.table.schema().fields):
            return ()
        raise CommitConflictError(
            f"another writer has given columns of {current.name()[-1]!r} their types meanwhile; nothing was written. "
            "Write these rows again"
        )


def decide_columns(table: Table, incoming: pa.Schema | None) -> ColumnDecision:
    """The columns that the table has once rows of ``incoming`` are in it.

    Raises:
        TypeMismatchError: a type that cannot be kept.
    """
    if incoming is None:
        return ColumnDecision(table)
    columns = columns_of(table)
    next_id = itertools.count(table.metadata.last_column_id + 1).__next__
    given = {field.name: field for field in incoming}
    fields, declared = [], {}
    for field in columns.fields:
        known = columns.declared[field.name]
        new, declared[field.name] = _decide_column(field, known, given.get(field.name, known), next_id)
        fields.append(new)
    if all(new is old for new, old in zip(fields, columns.fields, strict=True)):
        return ColumnDecision(table)
    media = {**columns.media, **media_of(pa.schema(list(declared.values())))}
    after = Columns(tuple(fields), declared, media, columns.dropped_media)
    _, updates = evolution_updates(table, after)
    metadata = update_table_metadata(table.metadata, updates)
    whole = Table(table.name(), metadata, table.metadata_location, table.io, table.catalog)
    return ColumnDecision(whole, updates, table.metadata.current_schema_id)


def _decide_column(
    field: NestedField, known: pa.Field[Any], given: pa.Field[Any], next_id: Callable[[], int]
) -> tuple[NestedField, pa.Field[Any]]:
    """A column once it has rows of a field: as Iceberg has it, and as it is declared."""
    decided = decide_field(known, given)
    if decided is not known:
        return decide_iceberg_field(field, known, decided, next_id), decided
    wider = merge_categories(known, given)
    if wider is known:
        return field, known
    return field.model_copy(update={"doc": unique_comment(field, "more categories")}), wider
