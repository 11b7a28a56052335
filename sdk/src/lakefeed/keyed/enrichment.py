"""`Enrichment`, columns that are derived for the rows of a keyed table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from lakefeed.catalog.action import WriteOptions
from lakefeed.catalog.edit_commit import edit
from lakefeed.errors import SchemaError, quoted_list
from lakefeed.keyed import keyed_scan
from lakefeed.keyed.enrichment_commit import DerivedColumns, NoRowsError
from lakefeed.run.column_alignment import align_columns
from lakefeed.run.save import Writing
from lakefeed.run.write_context import write_context

if TYPE_CHECKING:
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

    def apply(self, **options: Unpack[WriteOptions]) -> Snapshot | None:
        """Derives the columns and writes them as one version.

        If another writer commits first, only files that it has added or changed are computed anew.

        Args:
            options: ``provenance``, ``idempotency_key`` and ``fence``, as in `Dataset.save`.

        Returns:
            The new version; None if there are no rows, then nothing is committed.

        Raises:
            TypeMismatchError: a type does not fit that of the column.
            TransformError: a function returned values that do not fit.
            CommitConflictError: other writers kept winning. Nothing was written.
        """
        writing = Writing.of(options)
        lake, name = self._table.lake, self._table.identifier
        align_columns(lake, name)
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

    def __repr__(self) -> str:
        return f"<Enrichment of {self._table.identifier!r}: {quoted_list(self._scan.schema.names)}>"
