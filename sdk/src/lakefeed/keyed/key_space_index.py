"""`KeySpaceIndex`: ranges of keys with exact row counts, kept with the versions that they were made of.

The ranges are the rows of a hidden table, so garbage collections know them. The fence of the table is the state of the
scan that was counted. A refresh replaces both in one commit, and of two refreshes one wins.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from pyiceberg.exceptions import NoSuchTableError

from lakefeed.catalog.action import Fence, fence_value
from lakefeed.catalog.commit import create
from lakefeed.catalog.hidden_tables import HiddenTables
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.table_columns import columns_digest
from lakefeed.catalog.versions import newest_or_empty
from lakefeed.errors import (
    CommitConflictError,
    DamagedDatasetError,
    DatasetExistsError,
    DatasetNotFoundError,
    FenceError,
    FileError,
    IndexNotFoundError,
    InvalidArgumentError,
    StateMismatchError,
    UnsupportedError,
    VersionNotFoundError,
    quoted_list,
)
from lakefeed.keyed import scan_state
from lakefeed.keyed.key_ranges import Key, KeyRange, Shard, shards_of_keys
from lakefeed.keyed.keyed_scan import Scan
from lakefeed.keyed.pinned_table import PinnedTable
from lakefeed.keyed.projections import check_names, merged_tree, table_names, with_tree_renamed
from lakefeed.keyed.scan_reader import ScanReader
from lakefeed.keyed.shard_text import shards_of_batch, shards_to_batch
from lakefeed.ops import Scan as SourceScan
from lakefeed.run import row_edits
from lakefeed.run.input_keys import comparable
from lakefeed.run.local_runner import LocalRunner
from lakefeed.run.save import Writing
from lakefeed.run.touched_rows import touched_keys
from lakefeed.run.write_context import write_context
from lakefeed.sources.iceberg_source import IcebergSource
from lakefeed.sources.memory_source import MemorySource

if TYPE_CHECKING:
    from pyiceberg.table import Table as IcebergTable

    from lakefeed.keyed.keyed_table import Table

NAMESPACE: Final = "_key_spaces"
DEFINITION: Final = "lakefeed.key-space"
"""The property of the hidden table with the name and the granularity, as JSON."""
SOURCE: Final = "scan"
"""The fence with the state of the scan that was counted."""
MOST_GRANULES: Final = 2
"""A range has at most so many times the rows of the granularity."""
REFRESHES: Final = 20
"""The attempts of a refresh, if others commit theirs."""


class KeySpaceIndex:
    """Ranges of keys of a scan with the exact numbers of their rows, for sharding and streaming.

    `Project.create_key_space_index` makes one. Its ranges are those of the versions that it was refreshed at.

    Example:
        >>> table = Table.create("spaced", key_schema={"id": pa.int64()})
        >>> _ = table.write({"id": list(range(10))})
        >>> index = connect().create_key_space_index("spans", 4, table)
        >>> [shard.cardinality for shard in index.shards()]
        [4, 4, 2]
        >>> _ = table.write({"id": [100, 101, 102]})
        >>> [shard.cardinality for shard in index.refresh().shards()]
        [4, 4, 5]
    """

    def __init__(self, lake: Lake, name: str) -> None:
        self._home, self._name = lake, name

    @property
    def name(self) -> str:
        """The name."""
        return self._name

    @property
    def granularity(self) -> int:
        """The number of rows that a range should have; it has at most twice as many."""
        return int(json.loads(self._table().properties[DEFINITION])["granularity"])

    @property
    def version(self) -> int:
        """The version of the table that the ranges were made of."""
        return self._reader().base.version.version

    @property
    def asof(self) -> dt.datetime:
        """The time of the commit of that version, in UTC."""
        return dt.datetime.fromtimestamp(self._reader().base.version.timestamp_ms / 1000, dt.UTC)

    @property
    def table(self) -> Table:
        """The table, of which the keys are divided."""
        from lakefeed.keyed.keyed_table import open_table

        return open_table(self._home, self._reader().base.source.name)

    def shards(self) -> list[Shard]:
        """Returns the ranges, in the order of the keys, with their numbers of rows.

        Raises:
            IndexNotFoundError: the index was dropped.
            DamagedDatasetError: the stored ranges cannot be read. The message says how to make them anew.
        """
        return self._stored(self._table())

    def scan(self, *projections: Any) -> Scan:
        """Returns the scan of the versions that the ranges were made of.

        Args:
            projections: columns of the tables of the index, as in `Client.scan`; none for those of the index.

        Raises:
            InvalidArgumentError: a projection is of a table that the index does not have.
            VersionNotFoundError: a version has expired; `refresh` the index.
        """
        return self._scan(self._table(), projections)

    def _scan(self, table: IcebergTable, projections: Sequence[Any]) -> Scan:
        reader = scan_state.load_state(self._home, _state_of(table, self._name))
        if not projections:
            return Scan(reader)
        schemas = {table.source.name: table.schema for table in reader.tables}  # the names that they have now
        unknown = {name for each in projections for name in table_names(each)} - schemas.keys()
        if unknown:
            raise InvalidArgumentError(
                f"the index {self._name!r} is of {quoted_list(schemas)}, and not of {quoted_list(sorted(unknown))}"
            )
        tree = merged_tree(projections, schemas)
        check_names(tree)
        names = {table.source.name: table.name for table in reader.tables if table.source.name != table.name}
        return Scan(ScanReader(reader.tables, with_tree_renamed(tree, names), reader.where))

    def refresh(self) -> KeySpaceIndex:
        """Counts the rows of the newest versions, and returns the index.

        Only ranges with rows that were added or removed since are counted again. Ranges that have become large are
        divided, and small ones are merged with their neighbours. If the old versions have expired, or the stored ranges
        are damaged, all rows are counted.

        Raises:
            IndexNotFoundError, DatasetNotFoundError: the index or its table was dropped.
            CommitConflictError: refreshes of others kept coming first.
        """
        for _ in range(REFRESHES):
            table = self._table()
            state, granularity = _state_of(table, self._name), self.granularity
            now = _newest(self._home, state)
            text = scan_state.dump_state(now)
            if text == state and self._is_readable(table):
                return self
            shards = self._refreshed(table, now, granularity)
            plan = SourceScan(MemorySource(pa.Table.from_batches([shards_to_batch(shards, now.base.key_schema)])))
            tables, name = _tables(self._home), _table_name(self._name)
            with suppress(FenceError):  # another refresh was faster
                row_edits.overwrite(tables, plan, name, Writing.of({"fence": Fence(SOURCE, state, text)}))
                tables.forget_old_versions(name)
                return self
        raise CommitConflictError(
            f"refreshes of the key-space index {self._name!r} by others came first {REFRESHES} times; refresh it again"
        )

    def _refreshed(self, table: IcebergTable, now: ScanReader, granularity: int) -> list[Shard]:
        keys = now.of_keys()
        try:
            shards = self._stored(table)
            changed = _changed_ranges(self._home, self._reader(), now, [each.key_range for each in shards])
        except (DamagedDatasetError, VersionNotFoundError, UnsupportedError):
            return _merged(shards_of_keys(keys.ordered(), keys.keys, granularity), granularity)
        counted: list[Shard] = []
        for number, shard in enumerate(shards):
            counted += _divided(keys, shard.key_range, granularity) if number in changed else [shard]
        return _merged(counted, granularity)

    def _is_readable(self, table: IcebergTable) -> bool:
        with suppress(DamagedDatasetError):
            return bool(self._stored(table))
        return False

    def _table(self) -> IcebergTable:
        try:
            return _tables(self._home).table(_table_name(self._name))
        except DatasetNotFoundError:
            others = quoted_list(each.name for each in list_indexes(self._home)) or "none"
            raise IndexNotFoundError(f"there is no key-space index {self._name!r}; there are: {others}") from None
        except DamagedDatasetError as error:
            raise _damaged(self._name) from error

    def _stored(self, table: IcebergTable) -> list[Shard]:
        source = IcebergSource.of(_tables(self._home), _table_name(self._name), table, newest_or_empty(table))
        try:
            batches = list(LocalRunner(self._home.settings).batches(SourceScan(source)))
        except (FileError, DamagedDatasetError) as error:
            raise _damaged(self._name) from error
        return [shard for batch in batches for shard in shards_of_batch(batch)]

    def _reader(self) -> ScanReader:
        return scan_state.load_state(self._home, _state_of(self._table(), self._name))

    def __repr__(self) -> str:
        return f"<KeySpaceIndex {self._name!r}>"


def create_index(
    lake: Lake, name: str, granularity: Any, projections: Sequence[Any], where: Any, root_uri: Any, exist_ok: bool
) -> KeySpaceIndex:
    """Creates an index; see `Project.create_key_space_index`."""
    lake.identifier(name)
    if root_uri is not None:
        raise UnsupportedError("root_uri: the ranges of an index are few, and are kept in the warehouse")
    scan = Scan.of(lake, projections, where, None)
    definition = json.dumps({"format": 1, "name": name, "granularity": _granularity(granularity)})
    index, state = KeySpaceIndex(lake, name), scan.state_json()
    if _tables(lake).exists(_table_name(name)):
        return _existing(index, definition, state, exist_ok)
    shards = _merged(scan.compute_shards(granularity), granularity)
    batch = shards_to_batch(shards, scan.key_schema)
    try:
        with write_context(lake) as check:
            create(
                _tables(lake),
                _table_name(name),
                batch.schema,
                [batch],
                properties={DEFINITION: definition},
                fence=Fence(SOURCE, None, state),
                before_commit=check,
            )
    except DatasetExistsError:  # another process was faster
        return _existing(index, definition, state, exist_ok)
    return index


def open_index(lake: Lake, name: str) -> KeySpaceIndex:
    """Returns an index that exists."""
    lake.identifier(name)
    index = KeySpaceIndex(lake, name)
    index._table()
    return index


def scan_of_index(index: Any, table: str, projection: Any) -> tuple[Scan, list[Shard]]:
    """Returns the scan and the shards of an index of a table.

    Raises:
        InvalidArgumentError: this is not such an index.
    """
    if not isinstance(index, KeySpaceIndex):
        raise InvalidArgumentError(f"index must be a KeySpaceIndex, got {index!r:.80}")
    stored = index._table()
    scan = index._scan(stored, () if projection is None else (projection,))
    names = [each.source.name for each in scan.reader.tables]
    if table not in names:
        raise InvalidArgumentError(f"the index {index.name!r} is of {quoted_list(names)}, and not of {table!r}")
    return scan, index._stored(stored)


def drop_index(lake: Lake, name: str) -> None:
    """Removes an index. It may be damaged."""
    lake.identifier(name)
    tables = _tables(lake)
    try:
        tables.discard(_table_name(name))
    except DatasetNotFoundError:
        KeySpaceIndex(lake, name)._table()
    except DamagedDatasetError:
        with suppress(NoSuchTableError):
            lake.catalog.drop_table(tables.identifier(_table_name(name)))


def list_indexes(lake: Lake, prefix: str = "") -> Iterator[KeySpaceIndex]:
    """Yields the indexes whose names begin with a prefix. Damaged ones are left out."""
    tables = _tables(lake)
    for table_name in tables.names():
        with suppress(DatasetNotFoundError, DamagedDatasetError):
            definition = tables.table(table_name).properties.get(DEFINITION)
            name = "" if definition is None else json.loads(definition)["name"]
            if name and name.startswith(prefix):
                yield KeySpaceIndex(lake, name)


def _existing(index: KeySpaceIndex, definition: str, state: str, exist_ok: bool) -> KeySpaceIndex:
    table = index._table()
    if not exist_ok:
        raise DatasetExistsError(f"the key-space index {index.name!r} exists; exist_ok=True returns it")
    same = table.properties.get(DEFINITION) == definition
    if not same or _projection(_state_of(table, index.name)) != _projection(state):
        raise DatasetExistsError(f"the key-space index {index.name!r} exists with another granularity or other columns")
    return index


def _projection(state: str) -> list[Any]:
    values = json.loads(state)
    return [[each["table"] for each in values["tables"]], values["columns"], values["where"]]


def _granularity(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidArgumentError(f"granularity must be a number of rows of at least 1, got {value!r:.80}")
    return value


def _tables(lake: Lake) -> HiddenTables:
    return HiddenTables(lake, NAMESPACE)


def _table_name(name: str) -> str:
    return f"k{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _damaged(name: str) -> DamagedDatasetError:
    return DamagedDatasetError(
        f"the key-space index {name!r} is damaged: its ranges cannot be read. If refresh() does not count them again, "
        f"make it anew with drop_key_space_index({name!r}) and create_key_space_index({name!r}, …)"
    )


def _state_of(table: IcebergTable, name: str) -> str:
    state = fence_value(table, SOURCE)
    if state is None:
        raise _damaged(name)
    return state


def _newest(lake: Lake, state: str) -> ScanReader:
    """Returns the reader of a scan, of the newest versions of its tables."""
    try:
        values = json.loads(state)
        names = [(each["table"], each["uuid"]) for each in values["tables"]]
    except (ValueError, KeyError, TypeError) as error:
        raise StateMismatchError(f"this is not the state of a scan: {state!r:.80}") from error
    tables = tuple(PinnedTable.newest(lake, name, table_uuid) for name, table_uuid in names)
    return ScanReader(tables, scan_state.load_tree(values["columns"]), values["where"])


def _changed_ranges(lake: Lake, before: ScanReader, now: ScanReader, ranges: Sequence[KeyRange]) -> set[int]:
    """Returns the indices of the ranges of which the number of rows may have changed."""
    begins: list[Key] = [each.begin for each in ranges[1:] if each.begin is not None]
    changed: set[int] = set()
    tables = zip(before.tables, now.tables, strict=True)
    for old, new in tables if now.where is not None else list(tables)[:1]:
        if old.version.table_uuid != new.version.table_uuid:
            raise VersionNotFoundError(f"{new.name!r} was dropped and created again")
        if now.where is not None and _condition_columns(before, old) != _condition_columns(now, new):
            raise VersionNotFoundError(f"a column of the condition was dropped and added again in {new.name!r}")
        if old.version.version == new.version.version:
            continue
        columns = () if now.where is None else None
        for batch in touched_keys(lake, new.source.name, old.version.version, new.version.version, columns):
            values = [comparable(column).to_pylist() for column in batch.columns]
            changed.update(bisect_right(begins, key) for key in zip(*values, strict=True))
    return changed


def _condition_columns(reader: ScanReader, table: PinnedTable) -> str:
    """Returns a digest of the columns of a table that the condition reads."""
    keys = reader.of_keys()
    names = keys.columns_to_derive if table.name == keys.base.name else keys.columns[table.name]
    return columns_digest(table.source.columns, names)


def _divided(keys: ScanReader, key_range: KeyRange, granularity: int) -> list[Shard]:
    """Returns a range with its number of rows; divided if these are too many."""
    batches = list(keys.ordered(list(_within(keys.ranges, key_range))))
    rows = sum(batch.num_rows for batch in batches)
    if rows <= MOST_GRANULES * granularity:
        return [Shard(key_range, rows)]
    parts = shards_of_keys(batches, keys.keys, granularity)
    begins = [key_range.begin, *(part.key_range.begin for part in parts[1:])]
    ends = [*begins[1:], key_range.end]
    return [Shard(KeyRange(begin, end), part.cardinality) for begin, end, part in zip(begins, ends, parts, strict=True)]


def _within(ranges: Sequence[KeyRange], key_range: KeyRange) -> Iterator[KeyRange]:
    """Yields the parts of ranges that are in one range."""
    for each in ranges:
        begins = [bound for bound in (each.begin, key_range.begin) if bound is not None]
        ends = [bound for bound in (each.end, key_range.end) if bound is not None]
        begin, end = max(begins, default=None), min(ends, default=None)
        if begin is None or end is None or begin < end:
            yield KeyRange(begin, end)


@dataclass
class _Open:
    """The range that is being merged."""

    begin: Key | None
    end: Key | None
    rows: int


def _merged(shards: Sequence[Shard], granularity: int) -> list[Shard]:
    """Returns the ranges, with those of less than half the granularity merged with a neighbour."""
    merged: list[_Open] = []
    for shard in shards:
        rows, last = shard.cardinality or 0, merged[-1] if merged else None
        small = last is not None and 2 * min(last.rows, rows) < granularity
        if last is not None and small and last.rows + rows <= MOST_GRANULES * granularity:
            last.end, last.rows = shard.key_range.end, last.rows + rows
        else:
            merged.append(_Open(shard.key_range.begin, shard.key_range.end, rows))
    return [Shard(KeyRange(each.begin, each.end), each.rows) for each in merged]
