"""What a routine has done, as the versions of its output record it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lakefeed.catalog import DatasetVersion, list_versions
from lakefeed.routines.column_lineage import Lineage
from lakefeed.routines.pending import table_or_none
from lakefeed.routines.routine import Routine
from lakefeed.routines.work_unit import WorkUnit


@dataclass(frozen=True)
class Span:
    """What was read of one source: the versions of (``from_version``, ``to_version``].

    ``to_snapshot`` is the id of the last one, where numbers of versions may move.
    """

    source: str
    from_version: int | None
    to_version: int | None
    to_snapshot: int | None = None

    def facts(self) -> dict[str, Any]:
        """Returns the values for the version's summary, without an id that there is not."""
        return {key: value for key, value in asdict(self).items() if key != "to_snapshot" or value is not None}


@dataclass(frozen=True)
class RoutineResult:
    """One commit of a routine: ``rows_in`` of (``from_version``, ``to_version``] became ``rows_out``.

    ``complete`` is False where rows of ``to_version`` are left for the next commit; ``left_out`` says of versions why
    the function never saw them; ``also`` is what was read of further sources; ``lineage`` says of which
    columns of datasets those of the output are made, as far as that is known.
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


def history(routine: Routine) -> list[RoutineResult]:
    """The routine's commits, oldest first. After its source was made anew, also those from the old one."""
    table = table_or_none(routine.target)
    found: list[RoutineResult] = []
    for version in () if table is None else reversed(list_versions(table)):
        if _is_written_by(version, routine):
            found.append(result_of(version, found[-1].lineage if found else {}))
    return found


def result_of(version: DatasetVersion, before: Lineage | None = None) -> RoutineResult:
    """The commit of a routine that an output version is; ``before``: the lineage, where it was the same as before."""
    work = json.loads(version.work or "{}")
    first, *further = (Span(**span) for span in work["read"])
    return RoutineResult(
        rows_in=work["rows"],
        rows_out=version.added_records,
        from_version=first.from_version,
        to_version=first.to_version or 0,
        output_version=version.version,
        run=version.run,
        complete=work["complete"],
        left_out=tuple((number, reason) for number, reason in work["left_out"]),
        also=tuple(further),
        lineage=_lineage(work["columns"]) if "columns" in work else before or {},
    )


def work_of(routine: Routine, portion: WorkUnit, lineage: Lineage | None = None) -> str:
    """What the output's version says of a commit, for `history`; ``lineage``: where it is another than before."""
    facts: dict[str, Any] = {
        "routine": routine.name,
        "sources": list(routine.sources),
        "read": [span.facts() for span in _spans(portion)],
        "rows": portion.rows,
        "complete": all(part.end is None for part in portion.parts),
        "left_out": [skipped for part in portion.parts for skipped in part.skipped],
    }
    if lineage is not None:
        facts["columns"] = lineage
    return json.dumps(facts, separators=(",", ":"))


def describe_work(routine: Routine, portion: WorkUnit) -> str:
    """The same for people."""
    read = [
        f"{span.source} {'' if span.from_version is None else f'after v{span.from_version} '}up to v{span.to_version}"
        for span in _spans(portion)
        if span.to_version is not None
    ]
    left_out = [f"v{number} {reason}" for part in portion.parts for number, reason in part.skipped]
    return "; ".join([f"routine {routine.name}: {', '.join(read)}", *left_out])


def _lineage(columns: Mapping[str, Sequence[Sequence[str]]]) -> Lineage:
    return {name: [(dataset, column) for dataset, column in origins] for name, origins in columns.items()}


def _spans(portion: WorkUnit) -> list[Span]:
    spans = []
    for part in portion.parts:
        found = part.found
        numbers = [number for number, _ in part.skipped] + [version.version for version in part.versions]
        first, last = (found.before(min(numbers)), max(numbers)) if numbers else (found.reached, found.reached)
        spans.append(Span(found.source, first, last, None if last is None else found.snapshot_ids.get(last)))
    return spans


def routine_of(version: DatasetVersion) -> str | None:
    """The name of the routine that wrote a version; None if it was none."""
    return None if version.work is None else json.loads(version.work).get("routine")


def _is_written_by(version: DatasetVersion, routine: Routine) -> bool:
    if version.work is None:
        return False
    work: Mapping[str, Any] = json.loads(version.work)
    return work.get("routine") == routine.name and work.get("sources") == list(routine.sources)
