"""Where rows come from: the protocols that a source fulfils."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, Self

import pyarrow as pa

from lakefeed.expr import Expr, to_text
from lakefeed.plan.lineage import Lineage

if TYPE_CHECKING:
    from lakefeed.storage.disk.file_identity import Identities

RESIDENT = 0


@dataclass(frozen=True)
class Pushdown:
    """What a source is told of the plan above it.

    ``columns``: deliver only these, in the source's own order (None: all). ``fields``: of a struct
    column that stands at the head of some of these paths, deliver only the fields that the paths lead to (of sources
    that are `nested`). ``rows``: deliver only the places
    ``[start, stop)`` of the source's row order (stop None: to the end). ``predicate``: may be used to leave out
    fragments in which no row can match, and rows that do not; it is a hint, the exact filter stands right above the
    scan. ``rows`` counts before ``predicate`` prunes. ``exact``: no filter stands above; deliver the rows for which
    the predicate is true and no others (of sources that are `selective`), ``columns`` may lack what it reads.
    """

    columns: tuple[str, ...] | None = None
    predicate: Expr | None = None
    rows: tuple[int, int | None] | None = None
    fields: tuple[tuple[str, ...], ...] = ()
    exact: bool = False

    def describe(self) -> str:
        """The parts that are set, for ``explain()``."""
        parts = []
        if self.columns is not None:
            parts.append(f"columns=[{', '.join(self.columns)}]")
        if self.fields:
            parts.append(f"fields=[{', '.join(map('.'.join, self.fields))}]")
        if self.predicate is not None:
            parts.append(f"predicate={to_text(self.predicate)}")
        if self.rows is not None:
            start, stop = self.rows
            parts.append(f"rows=[{start}, {'end' if stop is None else stop})")
        return "".join(f" {part}" for part in parts)


@dataclass(frozen=True)
class Fragment:
    """The one unit of reading, sharding, distribution and resuming: a run of rows that is read at once. Picklable.

    ``rows``: exact, or None where only reading tells. ``size``: bytes that its rows take decoded, about; `RESIDENT`
    where they are in memory (or mapped) anyway. ``start``/``stop`` cut it: places within the fragment.
    ``private``: resident rows lie in memory of the reader alone, so that it may write there.
    """

    key: Any
    rows: int | None
    size: int = RESIDENT
    start: int = 0
    stop: int | None = None
    private: bool = False

    @property
    def length(self) -> int | None:
        """Rows that reading gives, after the cut."""
        if self.rows is None:
            return None
        return (self.rows if self.stop is None else self.stop) - self.start


class Source(Protocol):
    """A table to read: deterministic, picklable; `read` may be called from several threads at once.

    A source says by itself all that others must know of it; nobody asks for its class. A source that stands in place
    of others (a mirror, a memory-mapped result) passes on what still holds of them.
    """

    @property
    def schema(self) -> pa.Schema:
        """The schema of every batch that is read without a projection."""

    @property
    def identity(self) -> str:
        """Text that two sources share only if they deliver the same rows; part of every checkpoint."""

    @property
    def location(self) -> str:
        """Text that names where the rows come from; it stays the same when the rows there change."""

    @property
    def lineage(self) -> Lineage:
        """The stored datasets that the rows and columns come from."""

    def bound(self, states: Identities) -> Self:
        """The source in the states in which a run sees its files first; itself if it has none that may change."""

    @property
    def immutable(self) -> bool:
        """Whether `identity` names the rows for ever, so that a result derived from them never goes stale."""

    @property
    def exact_identity(self) -> bool:
        """Whether `identity` changes with the rows. That of a function or stream does not: it may give others."""

    @property
    def mirror_key(self) -> str | None:
        """A relative path for a local mirror of the rows; None if a mirror is of no use."""

    @property
    def memory(self) -> pa.Table | None:
        """The rows, if they are an Arrow table in memory that `read` slices."""

    @property
    def ranged(self) -> bool:
        """Whether `Pushdown.rows` is obeyed (fragments know their row counts)."""

    @property
    def nested(self) -> bool:
        """Whether `Pushdown.fields` is obeyed."""

    @property
    def selective(self) -> bool:
        """Whether `Pushdown.exact` is obeyed."""

    def count(self) -> int | None:
        """The exact number of rows, if known without reading data."""

    def fragments(self, pushdown: Pushdown) -> Iterator[Fragment]:
        """The fragments in row order, found lazily: a caller that stops early opens nothing more."""

    def read(self, fragment: Fragment, pushdown: Pushdown) -> Iterator[pa.RecordBatch]:
        """The rows of one fragment, in order."""

    def describe(self, pushdown: Pushdown) -> str:
        """One line for ``explain()``: where the rows come from and how much of it will be read."""


def cut(fragments: Iterable[Fragment], rows: tuple[int, int | None] | None) -> Iterator[Fragment]:
    """The fragments (of known length) that overlap the range, trimmed to it; stops as soon as it is served."""
    if rows is None:
        yield from fragments
        return
    start, stop = rows
    place = 0
    for fragment in fragments:
        if stop is not None and place >= stop:
            return
        length = fragment.rows
        assert length is not None, "only fragments of known length can be cut"
        low, high = max(start - place, 0), length if stop is None else min(stop - place, length)
        place += length
        if low < high:
            yield fragment if (low, high) == (0, length) else replace(fragment, start=low, stop=high)


def projected(schema: pa.Schema, pushdown: Pushdown) -> pa.Schema:
    """The schema that a source of ``schema`` delivers under the pushdown."""
    columns = frozenset(schema.names if pushdown.columns is None else pushdown.columns)
    return pa.schema([_with_fields(field, pushdown.fields) for field in schema if field.name in columns])


def _with_fields(field: pa.Field[Any], paths: tuple[tuple[str, ...], ...]) -> pa.Field[Any]:
    """The field with only what the paths that begin with its name lead to; as it is where one of them ends at it."""
    deeper = tuple(path[1:] for path in paths if path[0] == field.name)
    if not deeper or () in deeper or not isinstance(field.type, pa.StructType):
        return field
    names = {path[0] for path in deeper}
    return field.with_type(pa.struct([_with_fields(inner, deeper) for inner in field.type if inner.name in names]))


class Plain:
    """What sources have in common that read whole columns and leave filters to the plan.

    Of everything else it holds the answer that is always safe.
    """

    @property
    def location(self) -> str:
        return type(self).__name__

    @property
    def lineage(self) -> Lineage:
        return Lineage()

    def bound(self, states: Identities) -> Self:
        return self

    @property
    def immutable(self) -> bool:
        return False

    @property
    def exact_identity(self) -> bool:
        return False

    @property
    def mirror_key(self) -> str | None:
        return None

    @property
    def memory(self) -> pa.Table | None:
        return None

    @property
    def nested(self) -> bool:
        return False

    @property
    def selective(self) -> bool:
        return False


class Ranged(Plain):
    """What sources have in common whose fragments are read by themselves, a range of rows at a time."""

    @property
    def ranged(self) -> bool:
        return True

    @property
    def exact_identity(self) -> bool:
        return True


class InParts(Ranged):
    """A source of which the fragments are known: rows and bytes of each."""

    parts: tuple[tuple[int, int], ...]

    def count(self) -> int:
        return sum(rows for rows, _ in self.parts)
