"""`Enrichment`, columns that are derived for the rows of a keyed table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from lakefeed.catalog.action import WriteOptions
from lakefeed.catalog.edit_commit import edit
from lakefeed.compute.dask import dask_engine
from lakefeed.compute.processes import InProcess
from lakefeed.errors import SchemaError, quoted_list
from lakefeed.keyed import keyed_scan
from lakefeed.keyed.enrichment_commit import DerivedColumns, NoRowsError
from lakefeed.keyed.enrichment_runs import EnrichmentOptions, EnrichmentRun
from lakefeed.keyed.scan_source import origins_of
from lakefeed.run import read_tracking
from lakefeed.run.column_alignment import align_columns
from lakefeed.run.save import Writing
from lakefeed.run.write_context import write_context

if TYPE_CHECKING:
    from distributed import Client

    from lakefeed.compute.compute_engine import Engine
    from lakefeed.keyed.key_ranges import Shard
    from lakefeed.keyed.keyed_scan import Scan
    from lakefeed.keyed.keyed_table import Table
    from lakefeed.keyed.table_snapshot import Snapshot


class Enrichment:
    """Columns to derive for the rows of a table. Nothing is computed before `apply`.

    Other tables of the projections are read in the versions that are the newest when the enrichment is made, the table
    itself in its newest version at the commit. So each value belongs to the row that it was derived from.

    Example:
        >>> table = Table.create("deriving", key_schema={"id": pa.int64()})
        >>> _ = table.write({"id": [1, 2], "text": ["one", "three"]})
        >>> table.enrich({"is_one": table["text"] == "one"}).apply().version
        3
    """

    def __init__(self, table: Table, projections: tuple[Any, ...], where: Any = None) -> None:
        self._table = table
        scan = keyed_scan.Scan.of(table.lake, projections, where, None, table.identifier)
        keys = scan.key_schema.names
        names = [name for name in scan.schema.names if name not in keys]
        if not names:
            raise SchemaError(
                f"the projections of an enrichment of {table.identifier!r} have no columns other than the key "
                f"({quoted_list(keys)}); give a mapping of names to terms"
            )
        self._scan, self._where = scan.narrowed(names), where

    @property
    def table(self) -> Table:
        """The table."""
        return self._table

    @property
    def projection(self) -> Scan:
        """The columns as a scan of the versions that are the newest now."""
        return self._scan

    @property
    def where(self) -> Any:
        """The condition; None for all rows."""
        return self._where

    def apply(self, *, txn_dump: str | Path | None = None, **options: Unpack[WriteOptions]) -> Snapshot | None:
        """Derives the columns and writes them as one version.

        If another writer commits first, only files that it has added or changed are computed anew.

        Args:
            txn_dump: first write the operations to this file, for `Transaction.load_dumps`.
            options: ``provenance``, ``idempotency_key`` and ``fence``, as in `Dataset.save`.

        Returns:
            The new version; None if there are no rows, then nothing is committed.

        Raises:
            TypeMismatchError: a type does not fit that of the column.
            TransformError: a function returned values that do not fit.
            CommitConflictError: other writers kept winning. Nothing was written.
        """
        if txn_dump is not None:
            return self.apply_on(InProcess(), txn_dump=txn_dump, **options)
        writing = Writing.of(options)
        lake, name = self._table.lake, self._table.identifier
        align_columns(lake, name)
        read_tracking.track_origins(origins_of(self._scan.reader))
        derived = DerivedColumns(self._scan.reader, required=writing.fence is None)
        try:
            with write_context(lake) as before_commit:
                version = edit(
                    lake,
                    name,
                    derived.revise,
                    **writing.action,
                    before_commit=before_commit,
                    decide=derived.decide,
                )
        except NoRowsError:
            return None
        return self._table.snapshot(version.version)

    def apply_on(
        self,
        engine: Engine,
        *,
        max_task_size: int | None = None,
        checkpoint_dump: str | Path | None = None,
        shards: Sequence[Shard] | None = None,
        txn_dump: str | Path | None = None,
        **options: Unpack[WriteOptions],
    ) -> Snapshot | None:
        """Derives the columns in the workers of an engine, and writes them as one version.

        A worker that dies costs its task, which runs again. If a part fails, the others are finished, and nothing is
        committed; with a checkpoint, the next run derives only what is missing, also if this process dies.

        Args:
            engine: such as `lakefeed.compute.Processes`, `Dask` or `Ray`.
            max_task_size: the most rows of a task, or one row group. By default there are four tasks for each worker.
            checkpoint_dump: a folder for what is done, which is removed after the commit. Values are used again if the
                columns, the functions and the other tables are the same, whatever was written to the table meanwhile.
            shards: derive values only for rows of these shards.
            txn_dump: as in `apply`.
            options: as in `apply`.

        Returns:
            The new version, also if an earlier run of the checkpoint has committed it; None if there are no rows.

        Raises:
            InvalidArgumentError: an argument is malformed, or a function cannot be sent to workers.
            FormatError: a file of the checkpoint is damaged.
            CommitConflictError, TypeMismatchError, TransformError: as in `apply`.

        Example:
            >>> from lakefeed.compute import Processes
            >>> table = Table.create("spread", key_schema={"id": pa.int64()})
            >>> _ = table.write({"id": [1, 2], "x": [10, 20]})
            >>> _ = table.enrich({"half": table["x"] / 2}).apply_on(Processes(1))
            >>> table.scan("half").to_table().to_pydict()
            {'half': [5.0, 10.0]}
        """
        chosen = EnrichmentOptions(max_task_size, checkpoint_dump, shards, txn_dump)
        read_tracking.track_origins(origins_of(self._scan.reader))
        version = EnrichmentRun(self._scan.reader, engine, chosen, Writing.of(options)).apply()
        return None if version is None else self._table.snapshot(version.version)

    def apply_dask(
        self,
        *,
        client: Client | None = None,
        max_task_size: int | None = None,
        checkpoint_dump: str | Path | None = None,
        shards: Sequence[Shard] | None = None,
        txn_dump: str | Path | None = None,
        **client_kwargs: Any,
    ) -> Snapshot | None:
        """Derives the columns on a Dask cluster, as `apply_on` does.

        Args:
            client: a client of an existing cluster. None starts a cluster of processes on this machine.
            max_task_size: as in `apply_on`.
            checkpoint_dump: as in `apply_on`.
            shards: as in `apply_on`.
            txn_dump: as in `apply_on`.
            client_kwargs: the arguments of a new ``distributed.Client``, such as ``address`` or ``n_workers``.

        Returns:
            As `apply_on`.

        Raises:
            InvalidArgumentError: as in `apply_on`, or both a client and its arguments are given.
            MissingDependencyError: Dask is not installed.
        """
        with dask_engine(client, client_kwargs) as engine:
            return self.apply_on(
                engine, max_task_size=max_task_size, checkpoint_dump=checkpoint_dump, shards=shards, txn_dump=txn_dump
            )

    def __repr__(self) -> str:
        return f"<Enrichment of {self._table.identifier!r}: {quoted_list(self._scan.schema.names)}>"
