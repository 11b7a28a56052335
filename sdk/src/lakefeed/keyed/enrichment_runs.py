"""An enrichment whose values the workers of an engine derive, and which is one commit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pyiceberg.table import Table

from lakefeed._units import MIB
from lakefeed._validate import is_whole
from lakefeed.catalog.action import Action, Provenance
from lakefeed.catalog.column_files import column_snapshot_id
from lakefeed.catalog.edit_commit import edit
from lakefeed.catalog.file_refs import DataFileRef
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.staged_files import check_present, remove_staged
from lakefeed.catalog.versions import DatasetVersion, resolve
from lakefeed.compute.compute_engine import Engine, pack_task
from lakefeed.compute.distributed_write import check_engine, closing_tasks
from lakefeed.compute.plan_partitions import PARTITIONS_PER_WORKER
from lakefeed.compute.write_task import TableHandle
from lakefeed.errors import InvalidArgumentError, MissingFileError
from lakefeed.keyed.enrichment_checkpoint import Checkpoint, enrichment_digest
from lakefeed.keyed.enrichment_commit import DerivedColumns, DerivedFile, FileColumns, NoRowsError
from lakefeed.keyed.enrichment_tasks import (
    DerivedPart,
    DeriveTask,
    EnrichmentPlan,
    FailedPart,
    FilePart,
    JoinTask,
    cut_parts,
    group_parts,
)
from lakefeed.keyed.key_ranges import check_shards
from lakefeed.keyed.scan_reader import ScanReader
from lakefeed.keyed.transaction_operations import Operation, check_path, write_dump
from lakefeed.run.column_alignment import align_columns
from lakefeed.run.progress import counted
from lakefeed.run.save import Writing
from lakefeed.run.write_context import write_context

JOINED_BYTES = 64 * MIB
"""Column files of the parts of a data file are joined by a worker if they have more bytes, else by the commit."""


@dataclass(frozen=True)
class EnrichmentOptions:
    """The division of an enrichment and its checkpoint; see `Enrichment.apply_on`.

    Raises:
        InvalidArgumentError: an argument is malformed.
    """

    max_task_size: int | None = None
    checkpoint_dump: Any = None
    shards: Any = None
    txn_dump: Any = None

    def __post_init__(self) -> None:
        size = self.max_task_size
        if size is not None and (not is_whole(size) or size < 1):
            raise InvalidArgumentError(f"max_task_size must be a number of rows of at least 1, got {size!r:.80}")
        check_shards(self.shards)
        for name in ("checkpoint_dump", "txn_dump"):
            if getattr(self, name) is not None:
                check_path(getattr(self, name), name)


class EnrichmentRun:
    """One run of an enrichment on an engine.

    Args:
        reader: the scan that derives the columns.
        engine: runs the tasks.
        options: how the work is divided and kept.
        writing: the provenance, the idempotency key and the fence of the commit.
    """

    def __init__(self, reader: ScanReader, engine: Engine, options: EnrichmentOptions, writing: Writing) -> None:
        check_engine(engine)
        self._reader, self._engine, self._options, self._writing = reader, engine, options, writing
        self._lake: Lake = reader.base.lake
        self._name = reader.base.name
        ranges = check_shards(options.shards)
        self._derived = DerivedColumns(reader, writing.fence is None, None if ranges is None else tuple(ranges))

    def apply(self) -> DatasetVersion | None:
        """Derives the columns and commits them as one version.

        Returns:
            The version; None if there are no rows.
        """
        align_columns(self._lake, self._name)
        table = self._lake.table(self._name)
        digest = enrichment_digest(self._reader, str(table.metadata.table_uuid), self._derived.ranges)
        checkpoint = Checkpoint.open(self._lake, self._options.checkpoint_dump, digest)
        version = self._action(checkpoint).earlier_version(table)
        if version is None and table.metadata.current_snapshot() is not None:
            with write_context(self._lake) as alive:
                self._derive(table, checkpoint)
                version = self._commit(table, checkpoint, alive)
        self._remove_parts(table, checkpoint)
        checkpoint.end()
        return version

    def _remove_parts(self, table: Table, checkpoint: Checkpoint) -> None:
        """Removes column files of parts of data files, whose values are in those of the whole files now."""
        if self._options.txn_dump is None:
            parts = [part for each in _by_file(checkpoint.parts).values() if len(each) > 1 for part in each]
            remove_staged(table, [path for each in _operations(parts) for path in each.paths])

    def _action(self, checkpoint: Checkpoint) -> Action:
        key = self._writing.idempotency_key
        if key is None and checkpoint.folder is not None:
            key = f"enrichment-{checkpoint.run}"
        return Action(self._writing.provenance or Provenance(), key, self._writing.fence)

    def _commit(self, table: Table, checkpoint: Checkpoint, alive: Any) -> DatasetVersion | None:
        action = self._action(checkpoint)
        self._derived.parts = {path: _whole(parts) for path, parts in _by_file(checkpoint.parts).items()}
        if self._options.txn_dump is not None:
            write_dump(self._options.txn_dump, _operations(checkpoint.parts))
        try:
            return edit(
                self._lake,
                self._name,
                self._derived.revise,
                provenance=action.provenance,
                idempotency_key=action.idempotency_key,
                fence=action.fence,
                before_commit=alive,
                decide=self._derived.decide,
            )
        except NoRowsError:
            return None
        except BaseException:
            self._discard(table, checkpoint)
            raise

    def _discard(self, table: Table, checkpoint: Checkpoint) -> None:
        """Removes what was derived, unless a checkpoint or a dump keeps it."""
        if checkpoint.folder is None and self._options.txn_dump is None:
            remove_staged(table, [path for each in _operations(checkpoint.parts) for path in each.paths])

    # ------------------------------------------------------------------ the work

    def _derive(self, table: Table, checkpoint: Checkpoint) -> None:
        """Lets the engine derive what the checkpoint lacks."""
        work = _Work(self._reader, self._derived, self._options, table, self._engine)
        checkpoint.remove([part for part in checkpoint.parts if not work.is_valid(part)])
        checkpoint.remove(_overlapping(checkpoint.parts))
        tasks = [DeriveTask(work.plan, parts) for parts in work.missing(checkpoint.parts)]
        try:
            self._run(tasks, checkpoint, table)
            joins = [JoinTask(work.plan, file, ops) for file, ops in work.to_join(checkpoint.parts)]
            self._run(joins, checkpoint, table)
        except BaseException:
            self._discard(table, checkpoint)
            raise

    def _run(self, tasks: Sequence[DeriveTask | JoinTask], checkpoint: Checkpoint, table: Table) -> None:
        packed = [pack_task(task, "the projections") for task in tasks]
        failed: list[FailedPart] = []
        if packed:
            with (
                counted(f"enrich {self._name}", " parts") as progress,
                closing_tasks(self._engine.run(packed)) as running,
            ):
                for index, results in running:
                    for result in results:
                        self._take(tasks[index], result, checkpoint, failed, table)
                        progress(1)
        if failed:
            raise _with_note(failed, checkpoint)

    def _take(
        self,
        task: DeriveTask | JoinTask,
        result: DerivedPart | FailedPart,
        checkpoint: Checkpoint,
        failed: list[FailedPart],
        table: Table,
    ) -> None:
        if isinstance(result, FailedPart):
            failed.append(result)
            return
        checkpoint.add(result)
        if isinstance(task, JoinTask):
            parts = [part for part in checkpoint.parts if part.path == result.path and part is not result]
            checkpoint.remove(parts)
            remove_staged(table, [path for each in _operations(parts) for path in each.paths])


class _Work:
    """The data files of the newest version, and what is to be derived for them."""

    def __init__(
        self,
        reader: ScanReader,
        derived: DerivedColumns,
        options: EnrichmentOptions,
        table: Table,
        engine: Engine,
    ) -> None:
        self._options, self._derived, self._engine = options, derived, engine
        decided = derived.decide(table).table
        self._reader, self._table = derived.newest(reader.base.lake, decided), decided
        base = self._reader.base
        assert base.schema_id is not None, "it is read in the columns of now"
        snapshot = table.metadata.current_snapshot()
        needed = {base.version.snapshot_id, column_snapshot_id(decided, snapshot)}
        self.plan = EnrichmentPlan(
            base.lake,
            TableHandle.of(decided, {each for each in needed if each is not None}),
            (base.name, resolve(table), base.schema_id),
            base.keys,
            tuple(each.state() for each in reader.tables[1:]),
            reader.tree,
            reader.where,
            derived.names,
            derived.ranges,
            bool(derived.moved),
        )

    @cached_property
    def _files(self) -> dict[str, DataFileRef]:
        return {file.path: file for file in self._reader.base.source.files if file.rows}

    @cached_property
    def _sizes(self) -> dict[str, list[int]]:
        source = self._reader.base.source
        return {path: source.group_sizes(file) for path, file in self._files.items()}

    def is_valid(self, part: DerivedPart) -> bool:
        """Returns whether a part that is done is of a file of the newest version, with the same inputs."""
        file = self._files.get(part.path)
        if file is None or part.groups[1] > len(self._sizes[part.path]):
            return False
        columns = FileColumns(self._reader, self._table, file, self._derived.names)
        if columns.inputs != part.inputs or (part.operation is None and self._derived.moved):
            return False
        if part.operation is None:
            return True
        (first, stop), written = part.groups, part.operation.files[0]
        if part.operation.rows != sum(self._sizes[part.path][first:stop]):
            return False
        try:
            check_present(self._table.io, written.file_path, written.file_size_in_bytes)
        except MissingFileError:
            return False
        return part.operation.columns == columns.names

    def missing(self, done: Sequence[DerivedPart]) -> list[tuple[FilePart, ...]]:
        """Returns the parts that are left, in groups of a task each."""
        covered: dict[str, list[tuple[int, int]]] = {}
        for part in done:
            covered.setdefault(part.path, []).append(part.groups)
        most = self._options.max_task_size or self._rows_of_a_task()
        parts = [
            part
            for path, file in self._files.items()
            for part in cut_parts(file, self._sizes[path], covered.get(path, ()), most)
        ]
        return group_parts(parts, most)

    def _rows_of_a_task(self) -> int:
        total = sum(file.rows for file in self._files.values())
        return max(1, -(-total // (self._engine.width * PARTITIONS_PER_WORKER)))

    def to_join(self, done: Sequence[DerivedPart]) -> Iterator[tuple[DataFileRef, tuple[Operation, ...]]]:
        """Yields the files whose values are in several column files, with the operations in the order of the rows."""
        for path, parts in _by_file(done).items():
            operations = tuple(_operations(parts))
            size = sum(file.file_size_in_bytes for each in operations for file in each.files)
            needed = self.plan.always or any(part.has_rows for part in parts)
            if len(parts) > 1 and needed and (self._options.txn_dump is not None or size > JOINED_BYTES):
                yield self._files[path], operations


def _by_file(parts: Sequence[DerivedPart]) -> dict[str, list[DerivedPart]]:
    files: dict[str, list[DerivedPart]] = {}
    for part in sorted(parts, key=lambda each: (each.path, each.groups)):
        files.setdefault(part.path, []).append(part)
    return files


def _overlapping(parts: Sequence[DerivedPart]) -> list[DerivedPart]:
    """Returns parts that others have, too: two processes have used the checkpoint at once."""
    repeated = []
    for ordered in _by_file(parts).values():
        end = 0
        for part in ordered:
            if part.groups[0] < end:
                repeated.append(part)
            else:
                end = part.groups[1]
    return repeated


def _operations(parts: Sequence[DerivedPart]) -> list[Operation]:
    return [part.operation for part in parts if part.operation is not None]


def _whole(parts: Sequence[DerivedPart]) -> DerivedFile:
    return DerivedFile(parts[0].inputs, tuple(_operations(parts)), any(part.has_rows for part in parts))


def _with_note(failed: Sequence[FailedPart], checkpoint: Checkpoint) -> Exception:
    """Returns the first error, with a note that names the parts that failed."""
    error = failed[0].error
    named = "; ".join(f"row groups {each.groups[0]} to {each.groups[1] - 1} of {each.path}" for each in failed[:5])
    more = "" if len(failed) <= 5 else f", and {len(failed) - 5} more"
    advice = (
        "give checkpoint_dump= to keep those that succeed"
        if checkpoint.folder is None
        else f"{len(checkpoint.parts)} others are in the checkpoint; run it again for those that failed"
    )
    error.add_note(f"nothing was committed: {len(failed)} parts failed ({named}{more}); {advice}")
    return error
