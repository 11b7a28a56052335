"""The protocol of sources, and their fragments and pushdowns."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, Self

import pyarrow as pa

from lakefeed._typing import Block
from lakefeed.expr import Expr, to_text
from lakefeed.plan.lineage import Lineage

if TYPE_CHECKING:
    from lakefeed.storage.disk.file_identity import Identities

RESIDENT = 0


@dataclass(frozen=True)
class Pushdown:
    """The parts of a plan that a source evaluates itself.

    ``columns``: deliver only these, in the order of the source (None: all). ``fields``: of a struct column that begins
    some of these paths, deliver only the fields at the paths (`nested` sources only). ``rows``: deliver only the
    positions ``[start, stop)`` of the row order (stop None: to the end). ``predicate``: a hint for skipping fragments
    and rows without a match; the exact filter is right above the scan. ``rows`` counts before ``predicate`` prunes.
    ``exact``: there is no filter above, so deliver exactly the rows for which the predicate is true (`selective`
    sources only); ``columns`` may lack columns of the predicate.
    """

    columns: tuple[str, ...] | None = None
    predicate: Expr | None = None
    rows: tuple[int, int | None] | None = None
    fields: tuple[tuple[str, ...], ...] = ()
    exact: bool = False

    def describe(self) -> str:
        """Returns the parts that are set, for ``explain()``."""
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
    """The unit of reading, sharding, distribution and resuming: rows that are read at once. Picklable.

    ``rows``: the exact number, or None where only reading shows it. ``size``: about the decoded bytes of its rows;
    `RESIDENT` if they are in memory, or mapped. ``start`` and ``stop`` are positions that cut the fragment.
    ``private``: resident rows are in memory of this reader alone, so that it may write there.
    """

    key: Any
    rows: int | None
    size: int = RESIDENT
    start: int = 0
    stop: int | None = None
    private: bool = False

    @property
    def length(self) -> int | None:
        """The number of rows after the cut."""
        if self.rows is None:
            return None
        return (self.rows if self.stop is None else self.stop) - self.start

    @property
    def file(self) -> str | None:
        """The path or URL of the file that holds the rows; None if there is none."""
        name = self.key[0] if isinstance(self.key, tuple) and self.key else None
        return name if isinstance(name, str) else None


class Source(Protocol):
    """A table to read. Deterministic and picklable; `read` may be called from several threads at once.

    Callers ask a source through this protocol, never for its class. A source that replaces others (a mirror, a
    memory-mapped result) passes on their properties that still hold.
    """

    @property
    def schema(self) -> pa.Schema:
        """The schema of the batches without a projection."""

    @property
    def identity(self) -> str:
        """Text that two sources share only if they deliver the same rows; part of every checkpoint."""

    @property
    def location(self) -> str:
        """Text that names the origin of the rows. It does not change with the rows."""

    @property
    def lineage(self) -> Lineage:
        """The stored datasets that the rows and columns come from."""

    def bound(self, states: Identities) -> Self:
        """Returns the source fixed to the states in which a run first sees its files; itself without such files."""

    @property
    def immutable(self) -> bool:
        """True if `identity` names the rows for ever, so that results derived from them never become stale."""

    @property
    def exact_identity(self) -> bool:
        """True if `identity` changes with the rows. That of a function or stream does not."""

    @property
    def runs_user_code(self) -> bool:
        """True if `read` iterates an object of the user, which must stay in the thread of the caller."""

    @property
    def mirror_key(self) -> str | None:
        """A relative path for a local mirror of the rows; None if a mirror is useless."""

    @property
    def memory(self) -> pa.Table | None:
        """The rows, if they are an Arrow table in memory that `read` slices."""

    @property
    def ranged(self) -> bool:
        """True if the source evaluates `Pushdown.rows`; then its fragments have row counts."""

    @property
    def nested(self) -> bool:
        """True if the source evaluates `Pushdown.fields`."""

    @property
    def selective(self) -> bool:
        """True if the source evaluates `Pushdown.exact`."""

    def count(self) -> int | None:
        """Returns the exact number of rows if it is known without reading data, else None."""

    def fragments(self, pushdown: Pushdown) -> Iterator[Fragment]:
        """Yields the fragments in row order, lazily: a caller that stops early opens no more files."""

    def read(self, fragment: Fragment, pushdown: Pushdown) -> Iterator[pa.RecordBatch]:
        """Yields the rows of one fragment, in order."""

    def blocks(self, fragment: Fragment, pushdown: Pushdown) -> Generator[Block] | None:
        """Yields the parts of one fragment, in order; together they are the rows of `read`. None: it has no parts.

        The generator reads in the thread of the caller. The error of a part must be thrown into the generator, which
        raises it or the error that is behind it.
        """

    def describe(self, pushdown: Pushdown) -> str:
        """Returns one line for ``explain()``: the origin of the rows and how much of it will be read."""


def cut_fragments(fragments: Iterable[Fragment], rows: tuple[int, int | None] | None) -> Iterator[Fragment]:
    """Yields the fragments that overlap the range, cut to it. Their row counts must be known."""
    if rows is None:
        yield from fragments
        return
    start, stop = rows
    position = 0
    for fragment in fragments:
        if stop is not None and position >= stop:
            return
        length = fragment.rows
        assert length is not None, "only fragments of known length can be cut"
        low, high = max(start - position, 0), length if stop is None else min(stop - position, length)
        position += length
        if low < high:
            yield fragment if (low, high) == (0, length) else replace(fragment, start=low, stop=high)


def project_schema(schema: pa.Schema, pushdown: Pushdown) -> pa.Schema:
    """Returns the schema that a source of ``schema`` delivers under the pushdown."""
    columns = frozenset(schema.names if pushdown.columns is None else pushdown.columns)
    return pa.schema([_with_fields(field, pushdown.fields) for field in schema if field.name in columns])


def _with_fields(field: pa.Field[Any], paths: tuple[tuple[str, ...], ...]) -> pa.Field[Any]:
    """Returns the field with only the subfields at the paths, or unchanged if a path ends at the field itself."""
    deeper = tuple(path[1:] for path in paths if path[0] == field.name)
    if not deeper or () in deeper or not isinstance(field.type, pa.StructType):
        return field
    names = {path[0] for path in deeper}
    return field.with_type(pa.struct([_with_fields(inner, deeper) for inner in field.type if inner.name in names]))


class PlainSource:
    """A base class of sources that read whole columns and leave filters to the plan.

    It has the safe answer to everything else.
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
    def runs_user_code(self) -> bool:
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

    def blocks(self, fragment: Fragment, pushdown: Pushdown) -> Generator[Block] | None:
        return None


class RangedSource(PlainSource):
    """A base class of sources whose fragments have row counts and can be read on their own."""

    @property
    def ranged(self) -> bool:
        return True

    @property
    def exact_identity(self) -> bool:
        return True


class PartsSource(RangedSource):
    """A base class of sources that know the rows and bytes of each fragment."""

    parts: tuple[tuple[int, int], ...]

    def count(self) -> int:
        return sum(rows for rows, _ in self.parts)
