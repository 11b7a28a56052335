"""A scan as a source of a plan: each range of keys is a fragment, so that rows have positions."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import pyarrow as pa
from cachetools import LRUCache

from lakefeed.catalog.lake import Lake
from lakefeed.errors import StateMismatchError
from lakefeed.keyed import scan_state
from lakefeed.keyed.key_ranges import KeyRange, Shard
from lakefeed.keyed.scan_reader import ScanReader
from lakefeed.plan import Fragment, Lineage, Origin, Pushdown
from lakefeed.plan.fingerprint import digest
from lakefeed.plan.source import RangedSource, cut_fragments

CACHED_COUNTS: Final = 64


@dataclass(frozen=True, eq=False)
class ScanSource(RangedSource):
    """The rows of a scan without functions of the user, in the order of the key.

    Attributes:
        lake: the lake.
        state: the scan as JSON, see `scan_state`.
        shards: the parts to read, in this order; None for all rows.
    """

    lake: Lake
    state: str
    shards: tuple[Shard, ...] | None = None

    @classmethod
    def of(cls, reader: ScanReader, state: str, shards: Sequence[Shard] | None = None) -> ScanSource:
        """Returns the source of a scan, or of some shards of it."""
        source = cls(reader.base.lake, state, None if shards is None else tuple(shards))
        source.__dict__["_reader"] = reader
        return source

    @cached_property
    def _reader(self) -> ScanReader:
        return scan_state.load_state(self.lake, self.state)

    @property
    def schema(self) -> pa.Schema:
        return self._reader.schema

    @cached_property
    def identity(self) -> str:
        return f"scan:{digest(self.state if self.shards is None else (self.state, self.shards))}"

    @property
    def location(self) -> str:
        return f"scan of {', '.join(table.name for table in self._reader.tables)}"

    @property
    def immutable(self) -> bool:
        return True

    @property
    def lineage(self) -> Lineage:
        return Lineage(origins_of(self._reader))

    def count(self) -> int | None:
        if self.shards is not None:
            rows = [shard.cardinality for shard in self.shards]
            return None if None in rows else sum(filter(None, rows))
        reader = self._reader
        return reader.base.source.count() if reader.where is None else None

    def fragments(self, pushdown: Pushdown) -> Iterator[Fragment]:
        bytes_a_row = 8 * max(len(self.schema.names), 1)
        whole = (
            Fragment(index, rows, rows * bytes_a_row) for index, (_, rows) in enumerate(self._counted_ranges) if rows
        )
        return cut_fragments(whole, pushdown.rows)

    def read(self, fragment: Fragment, pushdown: Pushdown) -> Iterator[pa.RecordBatch]:
        wanted = frozenset(self.schema.names if pushdown.columns is None else pushdown.columns)
        names = tuple(name for name in self.schema.names if name in wanted)
        key_range, counted = self._counted_ranges[fragment.key]
        read = 0
        for batch in self._narrowed(names or self.schema.names[:1]).ordered([key_range]):  # one batch
            read = batch.num_rows
            stop = read if fragment.stop is None else fragment.stop
            yield batch.slice(fragment.start, stop - fragment.start).select(list(names))
        if read != counted:
            raise StateMismatchError(
                f"{self.location}: the shard {key_range} has {read} rows, but {counted} are given; it is a shard of "
                "another version or condition. Make the shards anew from this scan"
            )

    def describe(self, pushdown: Pushdown) -> str:
        tables = ", ".join(f"{table.name} v{table.version.version}" for table in self._reader.tables)
        return f"{tables}, in the order of {', '.join(self._reader.keys)}"

    @cached_property
    def _counted_ranges(self) -> Sequence[tuple[KeyRange, int]]:
        """Returns the ranges with their row counts. They are found by reading the keys, and remembered."""
        with _lock:
            known = _counted.get(self.identity)
        if known is None:
            keys = self._reader.of_keys()
            shards = [Shard(each) for each in keys.ranges] if self.shards is None else self.shards
            known = tuple((each.key_range, _count(keys, each)) for each in shards)
            with _lock:
                _counted[self.identity] = known
        return known

    def counted_shards(self) -> list[Shard]:
        """Returns the shards that hold rows, with the numbers of their rows."""
        return [Shard(key_range, rows) for key_range, rows in self._counted_ranges if rows]

    def _narrowed(self, names: Sequence[str]) -> ScanReader:
        """Returns the reader of some of the columns."""
        key = tuple(names)
        if key not in self._readers:
            reader = self._reader
            self._readers[key] = ScanReader(reader.tables, {name: reader.tree[name] for name in key}, reader.where)
        return self._readers[key]

    @cached_property
    def _readers(self) -> dict[tuple[str, ...], ScanReader]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_reader", "_readers")}


def _count(keys: ScanReader, shard: Shard) -> int:
    if shard.cardinality is not None:
        return shard.cardinality
    return sum(batch.num_rows for batch in keys.ordered([shard.key_range]))


def origins_of(reader: ScanReader) -> tuple[Origin, ...]:
    """Returns the versions that a scan reads."""
    return tuple(_origin(table) for table in reader.tables)


def _origin(table: Any) -> Origin:
    version = table.version
    return Origin(table.name, version.table_uuid, version.snapshot_id, version.version, None, None)


_counted: LRUCache[str, tuple[tuple[KeyRange, int], ...]] = LRUCache(CACHED_COUNTS)
_lock = threading.Lock()
