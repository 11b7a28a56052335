"""The commit of a finished tree as the next version of its dataset."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakefeed._arrow import compute as pc
from lakefeed.catalog.action import Provenance
from lakefeed.catalog.ancestry import ancestry
from lakefeed.catalog.column_union import unite_columns
from lakefeed.catalog.commit import create
from lakefeed.catalog.delete_files import deleted_positions
from lakefeed.catalog.edit_commit import Draft, edit
from lakefeed.catalog.file_refs import DataFileRef
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import LABEL, TREE, TREE_ID, TREE_PARENTS
from lakefeed.catalog.renaming import following_name
from lakefeed.catalog.snapshot_builder import BeforeCommit
from lakefeed.errors import DatasetExistsError, TreeStateError
from lakefeed.run.row_edits import newest
from lakefeed.run.write_context import content_saving
from lakefeed.sources.iceberg_source import IcebergSource
from lakefeed.trees.draft_tables import DraftFacts
from lakefeed.trees.finished_tree import (
    ABOUT,
    TAGS,
    FinishedTree,
    fact_of,
    find_finished,
    tree_table,
)
from lakefeed.trees.tree_identity import FIRST_LABEL, TreeId, next_label
from lakefeed.trees.tree_rows import TREE_SCHEMA, TreeRows, column, different, positions_of

if TYPE_CHECKING:
    from pyiceberg.table import Table

BATCH_ROWS = 32_768


def commit_tree(
    lake: Lake,
    tree: TreeId,
    facts: DraftFacts,
    rows: TreeRows,
    after: Callable[[], None],
    provenance: Provenance | None = None,
    more: pa.Table | None = None,
) -> FinishedTree:
    """Makes a tree the next version of its dataset, which is created if it is missing, and returns it.

    Repeated calls with one id make one version.

    Args:
        lake: the lake.
        tree: the id.
        facts: its facts.
        rows: its files. Those without origin get the id as their origin.
        after: is called after the commit, while the contents are still protected.
        provenance: who writes; None for the current run.
        more: further columns, with a row for each file in the order of ``rows``.

    Raises:
        TreeStateError: the label was taken meanwhile.
        CommitConflictError: other writers kept committing first. Nothing was written.
    """
    rows = TreeRows(rows.with_origin(str(tree)))
    tree = tree._replace(dataset=following_name(lake, tree.dataset))  # it may have been renamed since
    with content_saving(lake) as (writer, check):
        if writer.needs_protection:
            writer.protect(rows.digests)
            writer.flush()
        _Commit(lake, tree, facts, rows, check, provenance, more).run()
        after()
    finished = find_finished(lake, tree)
    if finished is None:
        raise TreeStateError(f"the tree {str(tree)!r} was deleted by another process right after its commit")
    return finished


@dataclass
class _Commit:
    lake: Lake
    tree: TreeId
    facts: DraftFacts
    rows: TreeRows
    check: BeforeCommit
    provenance: Provenance | None = None
    more: pa.Table | None = None

    @property
    def table(self) -> pa.Table:
        """The rows with the further columns."""
        table, more = self.rows.table, self.more
        if more is not None:
            for number, field in enumerate(more.schema):
                table = table.append_column(field, more[number])
        return table

    def run(self) -> None:
        if tree_table(self.lake, self.tree.dataset) is None and self._create():
            return
        tree_table(self.lake, self.tree.dataset)  # it may be another dataset of this name
        schema = self.table.schema
        # Further columns may be new to the dataset.
        columns: dict[str, Any] = (
            {"incoming": schema} if self.more is None else {"decide": lambda current: unite_columns(current, schema)}
        )
        edit(
            self.lake,
            self.tree.dataset,
            self._revise,
            idempotency_key=str(self.tree),
            before_commit=self.check,
            provenance=self.provenance,
            always=True,
            **columns,
        )

    def _create(self) -> bool:
        """Creates the dataset with this tree as its first version. Returns False if another process was faster."""
        title = json.dumps({"project": self.facts.project, "name": self.facts.name})
        try:
            create(
                self.lake,
                self.tree.dataset,
                self.table.schema,
                self.table.to_batches(BATCH_ROWS),
                provenance=self.provenance,
                properties={TREE: title},
                idempotency_key=str(self.tree),
                before_commit=self.check,
                facts=self._summary(self.facts.label or FIRST_LABEL),
            )
        except DatasetExistsError:
            return False
        return True

    def _summary(self, label: str) -> dict[str, str]:
        facts = self.facts
        about = {} if facts.description is None else {ABOUT: facts.description}
        tags = {TAGS: json.dumps(facts.tags)} if facts.tags else {}
        return {TREE_ID: self.tree.key, LABEL: label, TREE_PARENTS: json.dumps(facts.parents), **tags, **about}

    def _revise(self, draft: Draft) -> None:
        draft.facts.update(self._summary(choose_label(draft.table, self.facts)))
        missing = np.ones(len(self.rows), np.bool_)
        if draft.table.current_snapshot() is not None:
            self._drop_others(draft, newest(draft, self.tree.dataset), missing)
        added = self.table.filter(pa.array(missing))
        if added.num_rows:
            draft.add(missing.tobytes(), lambda: added.to_batches(BATCH_ROWS))

    def _drop_others(self, draft: Draft, source: IcebergSource, missing: NDArray[np.bool_]) -> None:
        """Removes the rows of the version that are not in the tree, and marks those of the tree that it has."""
        files = draft.files
        # All files at once: the look-up of paths costs as much for one of them.
        stored, live, ends = _rows_of_files(draft, source, files)
        # Further columns may have changed for each file.
        drops = live & ~self._mark(stored, live, missing) if self.more is None else live
        for file, start, end in zip(files, [0, *ends], ends, strict=False):
            positions = np.flatnonzero(drops[start:end])
            if len(positions):
                draft.drop(file, positions, partial(source.read_file, file))

    def _mark(self, stored: TreeRows, live: NDArray[np.bool_], missing: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Returns which of the live rows are in the tree, once each, and marks them as not missing."""
        positions = np.where(live, positions_of(self.rows, stored.paths), -1)
        _, first = np.unique(positions, return_index=True)
        wanted = np.zeros(len(positions), np.bool_)
        wanted[first] = True
        wanted &= positions >= 0
        chosen = positions[wanted]
        equal = ~_as_mask(different(stored, pa.array(wanted), self.rows, pa.array(chosen)))
        equal &= _as_mask(_same_origin(stored, wanted, self.rows, chosen))
        wanted[wanted] = equal
        missing[positions[wanted]] = False
        return wanted


def _rows_of_files(
    draft: Draft, source: IcebergSource, files: Sequence[DataFileRef]
) -> tuple[TreeRows, NDArray[np.bool_], list[int]]:
    """Returns the rows of files in their order, which of them are not deleted, and where each file ends."""
    batches: list[pa.RecordBatch] = []
    live, ends = [np.empty(0, np.bool_)], list[int]()
    for file in files:
        batches += [batch for _, batch in source.numbered_batches(file, tuple(TREE_SCHEMA.names))]
        alive = np.ones(file.rows, np.bool_)
        alive[deleted_positions(draft.table, file.path, file.deletes)] = False
        live.append(alive)
        ends.append(file.rows + (ends[-1] if ends else 0))
    table = pa.Table.from_batches(batches, source.schema.empty_table().select(TREE_SCHEMA.names).schema)
    columns: list[Any] = [table[each.name].cast(each.type) for each in TREE_SCHEMA]
    return TreeRows(pa.table(columns, schema=TREE_SCHEMA).combine_chunks()), np.concatenate(live), ends


def _same_origin(stored: TreeRows, wanted: NDArray[np.bool_], rows: TreeRows, positions: NDArray[np.int64]) -> Any:
    old = pc.fill_null(column(stored.table, "origin").filter(pa.array(wanted)), "")
    return pc.equal(old, column(rows.table, "origin").take(pa.array(positions)))


def _as_mask(values: Any) -> NDArray[np.bool_]:
    numpy = values.to_numpy() if isinstance(values, pa.ChunkedArray) else values.to_numpy(zero_copy_only=False)
    return np.asarray(numpy, np.bool_)


def choose_label(table: Table, facts: DraftFacts) -> str:
    """Returns the label of the next version.

    Raises:
        TreeStateError: the label that was asked for names another version.
    """
    labels = used_labels(table)
    if facts.label is None:
        return next_label(labels, labels)
    if facts.label in labels:
        raise taken_error(facts, labels)
    return facts.label


def used_labels(table: Table) -> Collection[str]:
    """Returns the labels of the versions, newest first."""
    labels = (fact_of(snapshot, LABEL) for snapshot in ancestry(table))
    return dict.fromkeys(label for label in labels if label is not None)


def taken_error(facts: DraftFacts, labels: Collection[str]) -> TreeStateError:
    """Returns the error for a label that another version has."""
    return TreeStateError(
        f"{facts.project}/{facts.name} has a version {facts.label!r} already; labels are unique. Choose another "
        f"dataset_version, such as {next_label(labels, labels)!r}, or leave it out; that of a draft is set by "
        "tree.version = …"
    )
