"""The history of a routine, as recorded by the versions of its output."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from typing import Any

from lakefeed.catalog import DatasetVersion, list_versions
from lakefeed.routines.column_lineage import Lineage
from lakefeed.routines.former_sources import first_names
from lakefeed.routines.pending import table_or_none
from lakefeed.routines.routine_declaration import Routine
from lakefeed.routines.skipped_rows import SkippedRows
from lakefeed.routines.work_unit import WorkUnit


@dataclass(frozen=True)
class Span:
    """The versions (``from_version``, ``to_version``] of a source."""

    source: str
    from_version: int | None
    to_version: int | None
    to_snapshot: int | None = None

    def facts(self) -> dict[str, Any]:
        """Returns the values for the version's summary, without an id that there is not."""
        return {key: value for key, value in asdict(self).items() if key != "to_snapshot" or value is not None}


@dataclass(frozen=True)
class RoutineResult:
    """One commit of a routine: rows of the versions (``from_version``, ``to_version``] became an output version.

    Attributes:
        rows_in: the number of rows that were read.
        rows_out: the number of rows that were written.
        from_version: the version before the first that was read.
        to_version: the last version that was read.
        output_version: the version of the output.
        run: the id of the run.
        complete: False if rows of ``to_version`` are left for the next commit.
        left_out: the versions that were not passed to the function, with the reasons.
        left_out_rows: the ranges of rows that were not passed to the function.
        failed: the number of rows on which the function raised. They are in the dataset of the errors.
        retried: the number of failed rows that were passed again; the commit then reads nothing else.
        also: the versions of further sources.
        lineage: for each column of the output, the columns of datasets from which it is computed, as far as known.
    """

    rows_in: int
    rows_out: int
    from_version: int | None
    to_version: int
    output_version: int
    run: str | None = None
    complete: bool = True
    left_out: tuple[tuple[int, str], ...] = ()
    also: tuple[Span, ...] = ()
    lineage: Lineage = field(default_factory=dict, compare=False)
    left_out_rows: tuple[SkippedRows, ...] = ()
    failed: int = 0
    retried: int = 0


def history(routine: Routine) -> list[RoutineResult]:
    """Returns the routine's commits, oldest first. They include those from a source that was deleted and made again.

    Args:
        routine: the routine.
    """
    table = table_or_none(routine.target)
    results: list[RoutineResult] = []
    former = cache(partial(first_names, routine.sources))
    for version in () if table is None else reversed(list_versions(table)):
        if _is_written_by(version, routine, former):
            results.append(result_of(version, results[-1].lineage if results else {}))
    return results


def result_of(version: DatasetVersion, before: Lineage | None = None) -> RoutineResult:
    """Returns the commit that an output version records. ``before`` is the lineage if it did not change."""
    work = json.loads(version.work or "{}")
    first, *further = (Span(**span) for span in work["read"])
    return RoutineResult(
        rows_in=work["rows"],
        rows_out=work.get("derived", version.added_records),
        from_version=first.from_version,
        to_version=first.to_version or 0,
        output_version=version.version,
        run=version.run,
        complete=work["complete"],
        left_out=tuple((number, reason) for number, reason in work["left_out"]),
        also=tuple(further),
        lineage=_lineage(work["columns"]) if "columns" in work else before or {},
        left_out_rows=tuple(SkippedRows(**each) for each in work.get("left_out_rows", ())),
        failed=work.get("failed", 0),
        retried=work.get("retried", 0),
    )


def work_of(
    routine: Routine, unit: WorkUnit, lineage: Lineage | None = None, skipped: Sequence[SkippedRows] = (), **counts: int
) -> str:
    """Returns the record of a commit for `history`. ``lineage`` is given if it changed.

    ``counts`` are those of `RoutineResult` that are not 0 and the number of rows whose columns were derived, and
    ``skipped`` the rows that are left out later.
    """
    facts: dict[str, Any] = {
        "routine": routine.name,
        "sources": list(routine.sources),
        "read": [span.facts() for span in _spans(unit)],
        "rows": unit.rows,
        "complete": all(part.end is None for part in unit.parts),
        "left_out": [skipped for part in unit.parts for skipped in part.skipped],
    }
    if lineage is not None:
        facts["columns"] = lineage
    left_out_rows = [asdict(each) for part in unit.parts for each in part.skipped_rows] + [*map(asdict, skipped)]
    if left_out_rows:
        facts["left_out_rows"] = left_out_rows
    facts |= {name: count for name, count in counts.items() if count}
    return json.dumps(facts, separators=(",", ":"))


def retry_work_of(routine: Routine, source: str, version: int, rows: int, failed: int) -> str:
    """Returns the record of a commit that passed failed rows of a version again."""
    span = Span(source, version, version).facts()
    facts = {"routine": routine.name, "sources": list(routine.sources), "read": [span], "rows": 0, "complete": True}
    return json.dumps({**facts, "left_out": [], "retried": rows, "failed": failed}, separators=(",", ":"))


def describe_work(routine: Routine, unit: WorkUnit) -> str:
    """Returns a description of a commit for people."""
    read = [
        f"{span.source} {'' if span.from_version is None else f'after v{span.from_version} '}up to v{span.to_version}"
        for span in _spans(unit)
        if span.to_version is not None
    ]
    left_out = [f"v{number} {reason}" for part in unit.parts for number, reason in part.skipped]
    left_out += [str(each) for part in unit.parts for each in part.skipped_rows]
    return "; ".join([f"routine {routine.name}: {', '.join(read)}", *left_out])


def _lineage(columns: Mapping[str, Sequence[Sequence[str]]]) -> Lineage:
    return {name: [(dataset, column) for dataset, column in origins] for name, origins in columns.items()}


def _spans(unit: WorkUnit) -> list[Span]:
    spans = []
    for part in unit.parts:
        source_range = part.range
        numbers = [number for number, _ in part.skipped] + [version.version for version in part.versions]
        first, last = (
            (source_range.before(min(numbers)), max(numbers))
            if numbers
            else (source_range.reached, source_range.reached)
        )
        spans.append(
            Span(source_range.source, first, last, None if last is None else source_range.snapshot_ids.get(last))
        )
    return spans


def routine_of(version: DatasetVersion) -> str | None:
    """Returns the name of the routine that wrote a version; None if none did.

    Args:
        version: the version.
    """
    return None if version.work is None else json.loads(version.work).get("routine")


def _is_written_by(version: DatasetVersion, routine: Routine, former: Callable[[], list[str]]) -> bool:
    """Returns whether a routine wrote a version. ``former`` returns the first names of its sources."""
    if version.work is None:
        return False
    work: Mapping[str, Any] = json.loads(version.work)
    if work.get("routine") not in routine.names:
        return False
    return work.get("sources") == list(routine.sources) or work.get("sources") == former()
