"""Row edits: each call is one version, made anew from the newest rows where another writer was faster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyiceberg.table import Table

from lakefeed.catalog.column_decisions import ColumnDecision, decide_columns
from lakefeed.catalog.column_union import unite_columns
from lakefeed.catalog.compatibility import check_compatible
from lakefeed.catalog.edit_commit import Draft, edit
from lakefeed.catalog.file_refs import DataFileRef, Delta
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.restore_commit import restore as restore_version
from lakefeed.catalog.snapshot_builder import BeforeCommit
from lakefeed.catalog.table_key import key_columns
from lakefeed.catalog.table_rows import RowWriter, write_rows
from lakefeed.catalog.versions import DatasetVersion, Pin, newest_or_empty, resolve
from lakefeed.errors import CommitConflictError, InvalidArgumentError, quoted_list
from lakefeed.expr import Expr, evaluate, parse, roots
from lakefeed.ops import Scan
from lakefeed.plan import Node, lineage
from lakefeed.run import column_alignment, keyed_rows
from lakefeed.run.key_compaction import merge_files
from lakefeed.run.local_runner import LocalRunner
from lakefeed.run.row_count import count_rows
from lakefeed.run.save import Writing, typed_for
from lakefeed.run.upsert import Upsert
from lakefeed.run.write_context import write_context
from lakefeed.sources.iceberg_source import IcebergSource


def delete_rows(lake: Lake, name: str, predicate: str, writing: Writing) -> DatasetVersion:
    """The version without the rows for which ``predicate`` is true; only files that hold one are written again."""

    def revise(draft: Draft) -> None:
        if draft.table.metadata.current_snapshot() is None:
            return
        source = newest(draft, name)
        wanted = parse(predicate, source.schema)
        for _, file in source.matching_files(wanted):
            draft.drop(file, _matching(source, file, wanted), partial(source.read_file, file))
        merge_files(draft, source)

    column_alignment.align_columns(lake, name)
    with write_context(lake) as before_commit:
        return edit(lake, name, revise, **_how(writing), before_commit=before_commit)


def overwrite(
    lake: Lake,
    plan: Node,
    name: str,
    writing: Writing,
    *,
    add_columns: bool = False,
    facts: Callable[[Table], Mapping[str, str]] | None = None,
) -> DatasetVersion:
    """The version that consists of the plan's rows.

    Args:
        lake: the lake.
        plan: the plan.
        name: the name of the dataset.
        writing: the keywords of the write.
        add_columns: the rows may have columns that the dataset lacks.
        facts: returns further entries of the snapshot summary, for the version before. It is called in each attempt,
            and an error that it raises ends the write. With it, a version is made even if no row changes.

    Raises:
        CommitConflictError: the plan reads the very dataset, and that has moved on since.
        DuplicateKeyError: the dataset has a key, and two of the rows have the same.
    """
    keys = key_columns(lake.table(name))
    if keys:
        return keyed_rows.replace(lake, plan, name, keys, writing, facts)
    with typed_for(lake, plan, name, writing) as (typed, before_commit):

        def rows() -> Iterator[pa.RecordBatch]:
            with closing(LocalRunner(lake.settings).batches(typed)) as batches:
                yield from batches

        return replace_rows(
            lake, plan, typed.schema, name, writing, before_commit, rows, add_columns=add_columns, facts=facts
        )


def replace_rows(
    lake: Lake,
    plan: Node,
    schema: pa.Schema,
    name: str,
    writing: Writing,
    before_commit: BeforeCommit,
    rows: Callable[[], Iterable[pa.RecordBatch]],
    write: RowWriter = write_rows,
    add_columns: bool = False,
    facts: Callable[[Table], Mapping[str, str]] | None = None,
) -> DatasetVersion:
    """The version that consists of the rows (of ``schema``) that ``write`` makes of ``rows()``; they are ``plan``'s."""

    def decide(current: Table) -> ColumnDecision:
        return unite_columns(current, schema) if add_columns else decide_columns(current, schema)

    table = lake.table(name)
    check_compatible(schema, decide(table).declared)
    read = versions_read(lake, name, table, plan)

    def revise(draft: Draft) -> None:
        check_not_moved(draft, name, read)
        for file in draft.files:
            draft.remove(file)
        draft.add("rows", rows, write)
        if facts is not None:
            draft.facts.update(facts(draft.table))

    # Some of the rows may have been there before: readers of what was added compare.
    changes: dict[str, Any] = {"decide": decide} if add_columns else {"incoming": schema}
    changes["always"] = facts is not None
    return edit(lake, name, revise, counts_exact=False, **_how(writing), before_commit=before_commit, **changes)


def upsert_into(
    lake: Lake, plan: Node, name: str, keys: tuple[str, ...] | None, writing: Writing, compare: bool = True
) -> DatasetVersion:
    """Makes a version in which the plan's rows replace those of equal keys; rows of new keys are added.

    With ``compare``, rows that equal the stored ones are left alone. ``keys``: None for the key of a keyed table.

    Raises:
        InvalidArgumentError: the dataset has another key, or none and ``keys`` is None.
    """
    own = key_columns(lake.table(name))
    if keys is None and not own:
        raise InvalidArgumentError(
            f"{name!r} has no key: name the columns that identify a row with keys=…; its columns are "
            f"{quoted_list(field.name for field in lake.table(name).schema().fields)}"
        )
    if keys is not None and own and set(own) != set(keys):
        raise InvalidArgumentError(f"keys={list(keys)}: the key of {name!r} is {quoted_list(own)}")
    keys = own or keys or ()
    column_alignment.align_columns(lake, name)
    with typed_for(lake, plan, name, writing) as (typed, before_commit):
        declared = decide_columns(lake.table(name), typed.schema).declared
        upsert = Upsert.of(lake.settings, typed, keys, declared, compare)

        def revise(draft: Draft) -> None:
            source = newest(draft, name) if draft.table.metadata.current_snapshot() is not None else None
            upsert.apply(draft, source)
            merge_files(draft, source)

        return edit(lake, name, revise, **_how(writing), before_commit=before_commit, incoming=typed.schema)


def restore(lake: Lake, name: str, version: Pin, writing: Writing) -> DatasetVersion:
    """The version that is what an old one was."""

    def compare(table: Table, gone: Sequence[DataFileRef], came: Sequence[DataFileRef]) -> int:
        source = IcebergSource.of_delta(lake, name, table, Delta(tuple(gone), tuple(came)))
        return count_rows(LocalRunner(lake.settings), Scan(source))

    with write_context(lake) as before_commit:
        return restore_version(lake, name, version, **_how(writing), before_commit=before_commit, compare=compare)


def newest(draft: Draft, name: str) -> IcebergSource:
    """The rows as they are now, under the columns that there are now."""
    table = draft.table
    schema_id = table.metadata.current_schema_id
    return IcebergSource.of(draft.lake, name, table, resolve(table), schema_id=schema_id)


def _matching(source: IcebergSource, file: DataFileRef, wanted: Expr) -> NDArray[np.int64]:
    """The places of the rows of a file for which the predicate is true."""
    read = roots(wanted)
    columns = tuple(name for name in source.schema.names if name in read)
    matches = [np.empty(0, np.int64)]
    for start, batch in source.numbered_batches(file, columns, wanted):
        true: Any = evaluate(wanted, batch)
        matches.append(np.flatnonzero(true.fill_null(False).to_numpy(zero_copy_only=False)) + start)
    return np.concatenate(matches)


def versions_read(lake: Lake, name: str, table: Table, plan: Node) -> set[int]:
    """The snapshots of the table that the plan reads, from the lake or from copies of their rows."""
    uuid = str(table.metadata.table_uuid)
    origins = lineage(plan).origins
    tables = {uuid}
    if any(origin.table_uuid != uuid and origin.dataset == name for origin in origins):
        # Rows of a dataset that was deleted here and made again are no more those of this one.
        tables |= {deletion.table for deletion in lake.deletions(name)}
    return {origin.snapshot_id for origin in origins if origin.table_uuid in tables}


def check_not_moved(draft: Draft, name: str, read: set[int]) -> None:
    """Refuses an overwrite that would remove rows that were added after its own rows were read."""
    now = newest_or_empty(draft.table) if read else None
    if now is not None and now.snapshot_id not in read:
        raise CommitConflictError(
            f"the rows were read from {name!r} itself, which has moved on to version {now.version} since; nothing was "
            "written. Derive them from the newest version again"
        )


def _how(writing: Writing) -> dict[str, Any]:
    return {
        "provenance": writing.provenance,
        "idempotency_key": writing.idempotency_key,
        "fence": writing.fence,
    }
