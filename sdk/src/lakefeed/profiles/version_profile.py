"""`Profile`: statistics of the rows that a version added, the first of these rows, and the files that they name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.table import Table

from lakefeed.catalog import DatasetVersion, Lake, list_versions
from lakefeed.catalog.schema_changes import SchemaChanges, schema_changes
from lakefeed.catalog.warehouse import is_warehouse_missing
from lakefeed.dataset import Dataset, rows_changed_after
from lakefeed.errors import LakefeedError, UnsupportedError, VersionNotFoundError
from lakefeed.statistics import Column, ColumnStatistics, is_file_type
from lakefeed.storage.remote.outages import is_outage

FIRST_ROWS = 16
MAX_DIGESTS = 10_000


@dataclass(frozen=True)
class Profile:
    """The result of reading the rows that a version added.

    Attributes:
        name: the name of the dataset.
        table_uuid: its table.
        version: the version.
        before: the number of the version before; None for the first.
        schema: the columns of the version.
        rows: the number of rows that were read.
        columns: the statistics of each column.
        first_rows: the first rows.
        digests: the sha256 of some of the files that the rows name.
        file_bytes: the bytes of these files.
        bytes_added: the bytes of the data files that the version added.
        bytes_total: the bytes of all its data files.
        changed: the changes of columns since the version before.
        unread: the reason for which the rows could not be read, or could not be told from earlier rows that another
            program rewrote; None if they were read.
        unreachable: the reason for which a store or server could not be reached. Then the rows are unknown, and another
            attempt may read them.
    """

    name: str
    table_uuid: str
    version: DatasetVersion
    before: int | None
    schema: pa.Schema
    rows: int = 0
    columns: Mapping[str, ColumnStatistics] = field(default_factory=dict)
    first_rows: tuple[dict[str, Any], ...] = ()
    digests: tuple[str, ...] = ()
    file_bytes: int = 0
    bytes_added: int = 0
    bytes_total: int = 0
    changed: SchemaChanges = field(default_factory=SchemaChanges)
    unread: str | None = None
    unreachable: str | None = None

    @property
    def added(self) -> Dataset:
        """The rows that the version added."""
        number = self.version.version
        # Not since the version before: others that came in between may have expired.
        return rows_changed_after(Dataset(self.name, version=number), "added", number - 1)


def is_unreachable(error: BaseException) -> bool:
    """Returns whether an error means that a store, server, catalog or the warehouse cannot be reached.

    Args:
        error: the error.
    """
    return is_outage(error) or is_warehouse_missing(Lake.current())


def profile(name: str, version: int) -> Profile:
    """Returns the profile of a version. It reads the rows that the version added once, in bounded memory.

    Args:
        name: the name of the dataset.
        version: the number of the version.

    Raises:
        DatasetNotFoundError: the dataset does not exist.
        VersionNotFoundError: the version does not exist.
    """
    return next(profiles(name, [version]))


def profiles(name: str, versions: Iterable[int]) -> Iterator[Profile]:
    """Yields the profiles of several versions of a dataset.

    Args:
        name: the name of the dataset.
        versions: the numbers of the versions.

    Raises:
        DatasetNotFoundError: the dataset does not exist.
        VersionNotFoundError: a version does not exist.
    """
    table = Lake.current().table(name)
    known = {version.version: version for version in list_versions(table)}
    order = sorted(known)
    for number in versions:
        if number not in known:
            raise VersionNotFoundError(f"{name!r} has no version {number}; the newest is {max(order, default=None)}")
        at = order.index(number)
        yield _profile(name, table, known[number], known[order[at - 1]] if at else None)


def _profile(name: str, table: Table, version: DatasetVersion, before: DatasetVersion | None) -> Profile:
    dataset = Dataset(name, version=version.version)
    initial = Profile(
        name,
        str(table.metadata.table_uuid),
        version,
        before.version if before else None,
        dataset.schema,
        bytes_added=_summary_number(table, version, "added-files-size"),
        bytes_total=_summary_number(table, version, "total-files-size"),
        changed=_schema_changes(table, version, before),
    )
    try:
        return _read_rows(initial)
    except UnsupportedError as error:
        return replace(initial, unread=str(error))
    except (LakefeedError, OSError) as error:
        if is_unreachable(error):
            return replace(initial, unreachable=f"{type(error).__name__}: {error}")
        # A version whose rows cannot be read is a finding, and the other versions of a run still get their profiles.
        return replace(initial, unread=f"{type(error).__name__}: {error}")


def _read_rows(initial: Profile) -> Profile:
    added = initial.added
    rows = file_bytes = 0
    columns = {column: Column() for column in initial.schema.names}
    digests: list[str] = []
    for batch in added.batches(format="arrow", load_files=False):
        rows += batch.num_rows
        for column, values in zip(batch.schema.names, batch.columns, strict=True):
            columns[column].add(values)
            if is_file_type(values.type):
                digests += [each for each in pc.struct_field(values, "sha256").to_pylist() if each]
                del digests[MAX_DIGESTS:]
                file_bytes += _sum(values, "size")
    return replace(
        initial,
        rows=rows,
        columns={name: column.statistics for name, column in columns.items()},
        first_rows=tuple(added.head(FIRST_ROWS).rows()),
        digests=tuple(dict.fromkeys(digests)),
        file_bytes=file_bytes,
    )


def _sum(values: pa.Array[Any], name: str) -> int:
    if values.type.get_field_index(name) < 0:
        return 0
    return int(pc.sum(pc.struct_field(values, name)).as_py() or 0)


def _schema_changes(table: Table, version: DatasetVersion, before: DatasetVersion | None) -> SchemaChanges:
    snapshots = {snapshot.snapshot_id: snapshot.schema_id for snapshot in table.metadata.snapshots}
    now = snapshots[version.snapshot_id]
    if now is None or before is None:
        return SchemaChanges()
    return schema_changes(table, snapshots[before.snapshot_id], now)


def _summary_number(table: Table, version: DatasetVersion, name: str) -> int:
    snapshot = table.metadata.snapshot_by_id(version.snapshot_id)
    summary = snapshot.summary if snapshot else None
    return int((summary.additional_properties.get(name) if summary else None) or 0)
