"""Routines: a function that is run exactly once over every row appended to a dataset.

Truth is the *position* stored with the output rows: a fence (a table property of the output, moved in the same
commit as the rows). Whoever starts a run, however often and however many at once, a range of versions is written once.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

import pyarrow as pa

from lakefeed.catalog import DatasetVersion, Fence, Lake, Provenance, fence_value, list_versions, resolve
from lakefeed.dataset import Dataset
from lakefeed.errors import DatasetExistsError, FenceError, StateMismatchError, TransformError

logger = logging.getLogger(__name__)

RoutineFn: TypeAlias = Callable[[Dataset], Dataset | pa.Table | Iterable[pa.RecordBatch]]

# Snapshots that hold the same rows in other files, or fewer rows: nothing for a routine to read.
ADDS_NOTHING = frozenset({"replace", "delete"})


@dataclass(frozen=True)
class Routine:
    """``fn`` over the rows appended to dataset ``source``, written to dataset ``output``.

    ``schema``: of the output; needed only where the very first run may return no batch at all.
    """

    name: str
    fn: RoutineFn
    source: str
    output: str
    schema: pa.Schema | None = None

    @property
    def fence(self) -> str:
        """The key under which the position stands with the output."""
        return f"{self.name}/{self.source}"


@dataclass(frozen=True)
class Position:
    """How far a routine has come in its source: everything up to ``version`` of the table ``table_uuid``."""

    table_uuid: str
    version: int

    def __str__(self) -> str:
        return f"{self.table_uuid}@v{self.version}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """The position that ``str()`` wrote.

        Example:
            >>> Position.parse("0b5a@v3")
            Position(table_uuid='0b5a', version=3)
        """
        table_uuid, _, version = text.rpartition("@v")
        return cls(table_uuid, int(version))


@dataclass(frozen=True)
class VersionRange:
    """What lies after ``position``: (``from_version``, ``to_version``]; ``versions`` added rows, oldest first."""

    table_uuid: str
    position: Position | None
    from_version: int | None
    versions: tuple[DatasetVersion, ...]

    @property
    def to_version(self) -> int:
        return self.versions[-1].version

    @property
    def reached(self) -> Position:
        """The position once the range is written."""
        return Position(self.table_uuid, self.to_version)

    @property
    def rows(self) -> int:
        """Rows that the range adds, as its commits recorded them."""
        return _rows(self.versions)


@dataclass(frozen=True)
class RoutineResult:
    """One commit of a routine: ``rows_in`` of (``from_version``, ``to_version``] became ``rows_out``."""

    rows_in: int
    rows_out: int
    from_version: int | None
    to_version: int
    output_version: int
    run: str | None = None


def position(routine: Routine) -> Position | None:
    """Where the routine stands in its source, as stored with its output; None before its first commit."""
    lake = Lake.current()
    stored = fence_value(lake.table(routine.output), routine.fence) if lake.exists(routine.output) else None
    return None if stored is None else Position.parse(stored)


def pending(routine: Routine, up_to: int | None = None) -> VersionRange | None:
    """What the routine has yet to read: versions after its position, none later than ``up_to``; None if nothing.

    A source that does not exist has nothing; an output that does not exist is begun from the first version.

    Raises:
        StateMismatchError: the source was deleted and made anew, so the position belongs to other data.
    """
    lake = Lake.current()
    if not lake.exists(routine.source):
        return None
    table, stored = lake.table(routine.source), position(routine)
    table_uuid = str(table.metadata.table_uuid)
    if stored is not None and stored.table_uuid != table_uuid:
        raise StateMismatchError(
            f"routine {routine.name!r} has read {routine.source!r} as table {stored.table_uuid}, but it is now table "
            f"{table_uuid}: deleted and made anew. Delete {routine.output!r}, or write elsewhere, to begin again."
        )
    return _after(list_versions(table), Position(table_uuid, 0), stored, up_to)


def run_routine(
    routine: Routine, *, up_to: int | None = None, run: str | None = None, code: str | None = None
) -> RoutineResult | None:
    """Read what is pending (up to version ``up_to``), call the function, commit rows and position as one version.

    Returns None if there is nothing (left) to do, also because another run has just done it. ``run`` and ``code`` say
    in the version's provenance who wrote it.

    Raises:
        StateMismatchError: the source was deleted and made anew.
        TransformError: the function returned something else than a Dataset, a Table or record batches.

    Example:
        >>> def labels(rows):
        ...     return rows.select(["id", "label"])
        >>> run_routine(Routine("labels", labels, "digits", "digit_labels"))  # doctest: +SKIP
        RoutineResult(rows_in=600, rows_out=600, from_version=None, to_version=1, output_version=1, run=None)
    """
    todo = pending(routine, up_to)
    while todo is not None:
        try:
            return _advance(routine, todo, Provenance(run=run, code=code, message=_message(routine, todo)))
        except DatasetExistsError:
            logger.info("routine %s: %r has just been made by another", routine.name, routine.output)
            todo = pending(routine, todo.to_version)
        except FenceError:
            again = pending(routine, todo.to_version)
            if again == todo:  # not moved at all: trying once more would read everything again for nothing
                raise
            logger.info("routine %s: another run was first with v%d", routine.name, todo.to_version)
            todo = again
    return None


def run_versions(
    routine: Routine, *, up_to: int | None = None, run: str | None = None, code: str | None = None
) -> Iterator[RoutineResult]:
    """Work off what is pending, one commit a source version, oldest first; yields each result as it lands.

    So each output version says which source version it was made of, memory and lost work are bounded by one version,
    and a run that dies is continued at the version where it died.
    """
    todo = pending(routine, up_to)
    for version in todo.versions if todo else ():
        result = run_routine(routine, up_to=version.version, run=run, code=code)
        if result is not None:
            yield result


def history(routine: Routine) -> list[RoutineResult]:
    """The routine's commits, oldest first, as the versions of its output record them."""
    lake = Lake.current()
    if not (lake.exists(routine.output) and lake.exists(routine.source)):
        return []
    read = [version for version in list_versions(lake.table(routine.source)) if _adds(version)]
    written = reversed(list_versions(lake.table(routine.output)))
    return [
        RoutineResult(
            rows_in=_rows(v for v in read if (span[0] or 0) < v.version <= span[1]),
            rows_out=version.added_records,
            from_version=span[0],
            to_version=span[1],
            output_version=version.version,
            run=version.run,
        )
        for version in written
        if (span := _span(version, routine)) is not None
    ]


def _after(
    newest_first: list[DatasetVersion], begin: Position, stored: Position | None, up_to: int | None
) -> VersionRange | None:
    done = (stored or begin).version
    fresh = [v for v in reversed(newest_first) if v.version > done and (up_to is None or v.version <= up_to)]
    adding = tuple(version for version in fresh if _adds(version))
    # After a rollback of the source the position's own version may be gone: go on from the one before it.
    before = max((version.version for version in newest_first if version.version <= done), default=None)
    return VersionRange(begin.table_uuid, stored, before, adding) if adding else None


def _advance(routine: Routine, todo: VersionRange, provenance: Provenance) -> RoutineResult:
    lake = Lake.current()
    rows = Dataset(routine.source, version=todo.to_version).added_since(todo.from_version, todo.to_version)
    fence = Fence(routine.fence, expected=_text(todo.position), value=str(todo.reached))
    produced = _produced(routine, rows)
    write = produced.append_to if lake.exists(routine.output) else produced.save
    written = write(routine.output, provenance=provenance, fence=fence)
    output_version = resolve(lake.table(routine.output), written.version)
    logger.info("routine %s: v%d -> %s v%d", routine.name, todo.to_version, routine.output, output_version.version)
    return RoutineResult(
        rows_in=todo.rows,
        rows_out=output_version.added_records,
        from_version=todo.from_version,
        to_version=todo.to_version,
        output_version=output_version.version,
        run=provenance.run,
    )


def _produced(routine: Routine, rows: Dataset) -> Dataset:
    result = routine.fn(rows)
    if isinstance(result, Dataset):
        return result
    if isinstance(result, pa.Table):
        return Dataset.from_arrow(result)
    if not isinstance(result, Iterable):
        raise TransformError(
            f"routine {routine.name!r} returned a {type(result).__name__}; it must return a Dataset, a pyarrow.Table, "
            "or yield pyarrow.RecordBatch"
        )
    return _streamed(routine, rows, iter(result))


def _streamed(routine: Routine, rows: Dataset, batches: Iterator[pa.RecordBatch]) -> Dataset:
    """The batches as a Dataset; its first pass goes on with the iterator whose schema was looked at."""
    first = next(batches, None)
    schema = routine.schema or (first.schema if first is not None else _schema_of(routine))
    begun = [chain([] if first is None else [first], batches)]

    def once_then_again() -> Iterable[pa.RecordBatch]:
        return begun.pop() if begun else routine.fn(rows)  # type: ignore[return-value]

    return Dataset.from_batches(once_then_again, schema=schema)


def _schema_of(routine: Routine) -> pa.Schema:
    if Lake.current().exists(routine.output):
        return Dataset(routine.output).schema
    raise TransformError(
        f"routine {routine.name!r} returned no batch on its first run, so nothing says which columns "
        f"{routine.output!r} has; give the routine a schema, or yield an empty batch"
    )


def _adds(version: DatasetVersion) -> bool:
    return version.operation not in ADDS_NOTHING and version.added_records > 0


def _rows(versions: Iterable[DatasetVersion]) -> int:
    return sum(version.added_records for version in versions)


def _text(stored: Position | None) -> str | None:
    return None if stored is None else str(stored)


_MESSAGE = re.compile(r"routine (?P<routine>\S+): (?P<source>\S+) (?:after v(?P<after>\d+) )?up to v(?P<to>\d+)")


def _message(routine: Routine, todo: VersionRange) -> str:
    after = "" if todo.from_version is None else f"after v{todo.from_version} "
    return f"routine {routine.name}: {routine.source} {after}up to v{todo.to_version}"


def _span(version: DatasetVersion, routine: Routine) -> tuple[int | None, int] | None:
    found = _MESSAGE.fullmatch(version.message or "")
    if found is None or (found["routine"], found["source"]) != (routine.name, routine.source):
        return None
    return (int(found["after"]) if found["after"] else None, int(found["to"]))
