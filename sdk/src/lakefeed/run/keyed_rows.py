"""Writes whole rows to a dataset that has a key: the rows stay unique by key, and are sorted by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lakefeed.catalog.column_decisions import decide_columns
from lakefeed.catalog.edit_commit import Draft, edit
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.versions import DatasetVersion
from lakefeed.errors import DuplicateKeyError
from lakefeed.plan import Node
from lakefeed.run.column_alignment import align_columns
from lakefeed.run.key_compaction import merge_files
from lakefeed.run.row_edits import check_not_moved, newest, versions_read
from lakefeed.run.save import Writing, typed_for
from lakefeed.run.upsert import SHOWN_KEYS, Upsert
from lakefeed.sources.iceberg_source import IcebergSource

if TYPE_CHECKING:
    from pyiceberg.table import Table


class Insert(Upsert):
    """Rows of new keys only."""

    def apply(self, draft: Draft, source: IcebergSource | None) -> None:
        """Adds the rows.

        Raises:
            DuplicateKeyError: a key is there already.
        """
        present = self._matching(source) if source is not None and self.rows.num_rows else {}
        if present:
            places = np.unique(np.concatenate([match.given for match in present.values()]))
            shown = self.given_rows(places[:SHOWN_KEYS], self.keys).to_pylist()
            more = f" and {len(places) - SHOWN_KEYS} more" if len(places) > SHOWN_KEYS else ""
            raise DuplicateKeyError(
                f"{draft.table.name()[-1]!r} has rows of these keys: {', '.join(map(str, shown))}{more}. Nothing was "
                "written. Replace them with upsert_into or Table.write, or leave them out"
            )
        self._add(draft, source, {}, {})


class Replacement(Upsert):
    """Rows that take the place of all others."""

    def apply(self, draft: Draft, source: IcebergSource | None) -> None:
        """Removes all files, and adds the rows."""
        for file in draft.files:
            draft.remove(file)
        self._add(draft, None, {}, {})


def insert(lake: Lake, plan: Node, name: str, keys: tuple[str, ...], writing: Writing) -> DatasetVersion:
    """Makes a version with the plan's rows added.

    Raises:
        DuplicateKeyError: a key is there already, or twice in the rows. Nothing is written.
    """
    align_columns(lake, name)
    with typed_for(lake, plan, name, writing) as (typed, before_commit):
        rows = Insert.of(lake.settings, typed, keys, decide_columns(lake.table(name), typed.schema).declared, False)

        def revise(draft: Draft) -> None:
            current = draft.table.metadata.current_snapshot()
            source = newest(draft, name) if current is not None else None
            rows.apply(draft, source)
            merge_files(draft, source)

        options: dict[str, Any] = {**writing.action}
        return edit(lake, name, revise, **options, before_commit=before_commit, incoming=typed.schema)


def replace(
    lake: Lake,
    plan: Node,
    name: str,
    keys: tuple[str, ...],
    writing: Writing,
    facts: Callable[[Table], Mapping[str, str]] | None = None,
) -> DatasetVersion:
    """Makes a version that consists of the plan's rows. ``facts``: as of `row_edits.overwrite`.

    Raises:
        CommitConflictError: the plan reads the very dataset, and that has moved on since.
        DuplicateKeyError: two of the rows have the same key. Nothing is written.
    """
    table = lake.table(name)
    read = versions_read(lake, name, table, plan)
    with typed_for(lake, plan, name, writing) as (typed, before_commit):
        rows = Replacement.of(lake.settings, typed, keys, decide_columns(table, typed.schema).declared, False)

        def revise(draft: Draft) -> None:
            check_not_moved(draft, name, read)
            rows.apply(draft, None)
            if facts is not None:
                draft.facts.update(facts(draft.table))

        options: dict[str, Any] = {**writing.action, "always": facts is not None}
        return edit(
            lake, name, revise, counts_exact=False, **options, before_commit=before_commit, incoming=typed.schema
        )
