"""Writes whose rows are made by an engine: workers write files, and one commit names all of them."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Unpack

import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from lakefeed._typing import ColumnTypes, IfExists
from lakefeed.catalog.action import WriteOptions, takes_write_options
from lakefeed.catalog.commit import append, create
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.reclaim import reclaim_when_full
from lakefeed.catalog.snapshot_builder import BeforeCommit, PreCommitCheck, SnapshotBuilder
from lakefeed.catalog.table_key import key_columns
from lakefeed.catalog.versions import DatasetVersion
from lakefeed.catalog.warehouse import remove_data_files
from lakefeed.compute.compute_engine import Engine, pack_task
from lakefeed.compute.plan_partitions import divide_plan
from lakefeed.compute.write_task import TableHandle, WriteResult, WriteTask
from lakefeed.dataset import Dataset, dataset_at, lake_of, plan_of
from lakefeed.errors import InvalidArgumentError, StorageFullError, UnsupportedError, quoted_list
from lakefeed.media import typed_schema
from lakefeed.media.cell_sources import CopyFiles
from lakefeed.plan import Node
from lakefeed.plan.walk import flatten
from lakefeed.run.guarded_steps import guard_of
from lakefeed.run.local_runner import LocalRunner
from lakefeed.run.progress import counted
from lakefeed.run.row_edits import replace_rows
from lakefeed.run.save import Writing, types_of_new, types_of_old
from lakefeed.run.save_modes import make_or_add
from lakefeed.run.step_chain import SkippedRows
from lakefeed.run.write_context import write_context


@takes_write_options
def save(
    rows: Dataset,
    name: str,
    engine: Engine,
    description: str | None = None,
    column_types: ColumnTypes | Literal["auto"] | None = "auto",
    copy_files: CopyFiles = "auto",
    stats: bool = True,
    *,
    if_exists: IfExists = "error",
    **options: Unpack[WriteOptions],
) -> Dataset:
    """Saves rows as `Dataset.save` does, but the workers of ``engine`` make them.

    The rows, their order and the version are the same.

    Args:
        rows: the dataset.
        name: as in `Dataset.save`.
        engine: such as `Processes` or `Dask`.
        description: as in `Dataset.save`.
        column_types: as in `Dataset.save`.
        copy_files: as in `Dataset.save`.
        stats: as in `Dataset.save`.
        if_exists: as in `Dataset.save`.
        options: as in `Dataset.save`.

    Returns:
        The dataset at the new version.

    Raises:
        InvalidArgumentError: an argument is not a dataset or an engine, the rows cannot be made in parts, or a function
            cannot be sent to workers. Nothing is written.
        DatasetExistsError, SchemaError, MissingFileError: as in `Dataset.save`.

    Example:
        >>> from lakefeed.compute import Processes, save
        >>> _ = Dataset.from_dict({"x": [1, 2, 3]}).save("numbers")
        >>> save(Dataset("numbers").with_column("y", "x * 2"), "doubles", Processes(2)).count()
        3
    """
    writing = Writing.of(options, copy_files, stats, description, if_exists)
    _check(rows, engine)
    lake, plan = lake_of(rows), plan_of(rows, "save")

    def create_new() -> DatasetVersion:
        types = types_of_new(lake, LocalRunner(lake.settings), plan, name, column_types, writing)
        work = _DistributedWrite(lake, plan, dict(sorted(types.items())), writing, engine, f"save {name}")
        with work.protected() as before_commit:
            return create(
                lake,
                name,
                work.schema,
                (),
                description=description,
                before_commit=before_commit,
                write=work.write,
                **writing.action,
            )

    add = _replace if if_exists == "new_version" else _append
    version = make_or_add(lake, name, if_exists, create_new, lambda: add(lake, plan, name, writing, engine))
    return dataset_at(lake, name, version)


@takes_write_options
def append_to(
    rows: Dataset,
    name: str,
    engine: Engine,
    copy_files: CopyFiles = "auto",
    stats: bool = True,
    **options: Unpack[WriteOptions],
) -> Dataset:
    """Appends rows as `Dataset.append_to` does, but the workers of ``engine`` make them.

    The rows, their order and the version are the same.

    Args:
        rows: the dataset.
        name: as in `Dataset.append_to`.
        engine: such as `Processes` or `Dask`.
        copy_files: as in `Dataset.save`.
        stats: as in `Dataset.save`.
        options: as in `Dataset.save`.

    Returns:
        The dataset at the new version.

    Raises:
        InvalidArgumentError: as in `save`. Nothing is written.
        DatasetNotFoundError, SchemaError, MissingFileError, CommitConflictError: as in `Dataset.append_to`.
        UnsupportedError: the dataset has a key. Nothing is written.
    """
    writing = Writing.of(options, copy_files, stats)
    _check(rows, engine)
    lake = lake_of(rows)
    return dataset_at(lake, name, _append(lake, plan_of(rows, "append_to"), name, writing, engine))


def _append(lake: Lake, plan: Node, name: str, writing: Writing, engine: Engine) -> DatasetVersion:
    work = _write_to(lake, plan, name, writing, engine, "append")
    with work.protected() as before_commit:
        return append(
            lake, name, (), schema=work.schema, before_commit=before_commit, write=work.write, **writing.action
        )


def _replace(lake: Lake, plan: Node, name: str, writing: Writing, engine: Engine) -> DatasetVersion:
    work = _write_to(lake, plan, name, writing, engine, "overwrite")
    with work.protected() as before_commit:
        return replace_rows(lake, plan, work.schema, name, writing, before_commit, lambda: (), work.write)


def _write_to(lake: Lake, plan: Node, name: str, writing: Writing, engine: Engine, verb: str) -> _DistributedWrite:
    keys = key_columns(lake.table(name))
    if keys:
        raise UnsupportedError(
            f"{name!r} has the key {quoted_list(keys)}, which workers cannot check; write with Dataset.{verb}"
            f"{'_to' if verb == 'append' else ''} or Table.write"
        )
    types = types_of_old(lake, plan, name)
    return _DistributedWrite(lake, plan, dict(sorted(types.items())), writing, engine, f"{verb} {name}")


@dataclass(frozen=True)
class _DistributedWrite:
    """The rows of a plan, which workers write in parts."""

    lake: Lake
    plan: Node
    types: Mapping[str, str]
    writing: Writing
    engine: Engine
    label: str
    objects: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        divide_plan(self.plan, 1, sys.maxsize)
        pack_task(flatten(self.plan), "the rows")

    @property
    def schema(self) -> pa.Schema:
        """The columns as they are written."""
        return typed_schema(self.plan.schema, self.types) if self.types else self.plan.schema

    @contextmanager
    def protected(self) -> Iterator[BeforeCommit]:
        """The time in which nothing that workers write is collected as garbage: until the commit, this process says."""
        if not self.types:
            with write_context(self.lake) as before_commit:
                yield before_commit
            return
        saving = self.lake.blobs.open_writer()
        commit = PreCommitCheck(saving.require_alive)
        with reclaim_when_full(self.lake, lambda: self.objects, commit), saving:
            yield commit

    def write(
        self, lake: Lake, table: Table, declared: pa.Schema, builder: SnapshotBuilder, _: Iterable[pa.RecordBatch]
    ) -> tuple[DataFile, ...]:
        """The files of all parts, in the order of the parts."""
        LocalRunner(lake.settings).track(self.plan)  # the workers do not belong to the run of this process
        most = lake.settings.write.file_bytes
        parts = divide_plan(self.plan, self.engine.width, most)
        tasks = [
            pack_task(self._part(table, declared, builder, index, part), "the rows") for index, part in enumerate(parts)
        ]
        try:
            done = self._run_tasks(builder, tasks)
        except BaseException:
            remove_data_files(
                table, builder.commit.hex
            )  # also those of workers that were killed, or that ended too late
            raise
        written, skipped = self._until_stop(done), SkippedRows()
        files = tuple(file for result in written for file in result.files)
        if len(done) < len(tasks):  # also those of workers that could not be stopped in time
            remove_data_files(table, builder.commit.hex, {file.file_path for file in files})
        for result in written:
            skipped.add_report(*result.skipped)
        skipped.log()  # the logs of workers may be read by nobody
        return files

    def _until_stop(self, done: Mapping[int, WriteResult]) -> list[WriteResult]:
        """Returns the results of all parts in order, or of those up to the first row that could not be made."""
        results = [done[index] for index in sorted(done)]
        guard = guard_of(self.plan)
        if guard is not None:
            guard.errors.clear()
            guard.errors.add_all(result.errors for result in results if result.errors is not None)
        last = _first_stop(done)
        return results if last is None else results[: last + 1]

    def _run_tasks(self, builder: SnapshotBuilder, tasks: Sequence[bytes]) -> dict[int, WriteResult]:
        done: dict[int, WriteResult] = {}
        try:
            with counted(self.label, " rows") as progress, closing_tasks(self.engine.run(tasks)) as running:
                for index, result in running:
                    if isinstance(result, StorageFullError):
                        self.objects.update(result.remaining_objects)
                    if isinstance(result, BaseException):
                        continue  # the engine is about to raise the first one
                    done[index] = result
                    self.objects.update(result.objects)
                    builder.track_files(result.files)
                    progress(result.rows)
                    last = _first_stop(done)
                    if last is not None and all(before in done for before in range(last)):
                        break  # what comes after it will not be committed
        except StorageFullError as error:
            self.objects.update(error.remaining_objects)
            error.remaining_objects = ()
            raise
        return done

    def _part(self, table: Table, declared: pa.Schema, builder: SnapshotBuilder, index: int, plan: Node) -> WriteTask:
        return WriteTask(
            self.lake,
            flatten(plan),
            TableHandle.of(table),
            declared,
            f"{builder.commit.hex}-{index:06d}",  # the order of paths is the order of rows
            self.types,
            self.writing.copy_files,
            self.writing.stats,
        )


@contextmanager
def closing_tasks(results: Iterator[tuple[int, Any]]) -> Iterator[Iterator[tuple[int, Any]]]:
    """Stops the tasks of an engine at the end of the block."""
    try:
        yield results
    finally:
        if isinstance(results, Generator):
            results.close()


def _first_stop(done: Mapping[int, WriteResult]) -> int | None:
    """Returns the first part that ends before its last row, because of an error."""
    stopped = (index for index, each in done.items() if each.errors is not None and each.errors.stop is not None)
    return min(stopped, default=None)


def _check(rows: Any, engine: Any) -> None:
    if not isinstance(rows, Dataset):
        raise InvalidArgumentError(f"rows must be a Dataset, got {rows!r:.80}")
    check_engine(engine)


def check_engine(engine: Any) -> None:
    """Checks an engine, but not its width: a cluster is asked for that.

    Raises:
        InvalidArgumentError: this is not an engine.
    """
    if isinstance(engine, type) or not callable(getattr(engine, "run", None)):
        raise InvalidArgumentError(
            f"engine must be an Engine such as lakefeed.compute.Processes(4) or Dask(), got {engine!r:.80}"
        )
