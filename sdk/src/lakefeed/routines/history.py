"""What a routine has done, as the versions of its output record it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lakefeed.catalog import DatasetVersion, list_versions
from lakefeed.routines.pending import table_or_none
from lakefeed.routines.portion import Portion
from lakefeed.routines.routine import Routine


@dataclass(frozen=True)
class Span:
    """What was read of one source: the versions of (``from_version``, ``to_version``]."""

    source: str
    from_version: int | None
    to_version: int | None


@dataclass(frozen=True)
class RoutineResult:
    """One commit of a routine: ``rows_in`` of (``from_version``, ``to_version``] became ``rows_out``.

    ``complete`` is False where rows of ``to_version`` are left for the next commit; ``left_out`` says of versions why
    the function never saw them; ``also`` is what was read of further sources.
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


def history(routine: Routine) -> list[RoutineResult]:
    """The routine's commits, oldest first. After its source was made anew, also those from the old one."""
    table = table_or_none(routine.target)
    versions = [] if table is None else reversed(list_versions(table))
    return [result_of(version) for version in versions if _by(version, routine)]


def result_of(version: DatasetVersion) -> RoutineResult:
    """The commit of a routine that an output version is."""
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
    )


def work_of(routine: Routine, portion: Portion) -> str:
    """What the output's version says of a commit, for `history`."""
    facts = {
        "routine": routine.name,
        "sources": list(routine.sources),
        "read": [asdict(span) for span in _spans(portion)],
        "rows": portion.rows,
        "complete": all(part.end is None for part in portion.parts),
        "left_out": [skipped for part in portion.parts for skipped in part.skipped],
    }
    return json.dumps(facts, separators=(",", ":"))


def message_of(routine: Routine, portion: Portion) -> str:
    """The same for people."""
    read = [
        f"{span.source} {'' if span.from_version is None else f'after v{span.from_version} '}up to v{span.to_version}"
        for span in _spans(portion)
        if span.to_version is not None
    ]
    left_out = [f"v{number} {reason}" for part in portion.parts for number, reason in part.skipped]
    return "; ".join([f"routine {routine.name}: {', '.join(read)}", *left_out])


def _spans(portion: Portion) -> list[Span]:
    spans = []
    for part in portion.parts:
        numbers = [number for number, _ in part.skipped] + [version.version for version in part.versions]
        if numbers:
            spans.append(Span(part.found.source, part.found.before(min(numbers)), max(numbers)))
        else:
            spans.append(Span(part.found.source, part.found.reached, part.found.reached))
    return spans


def _by(version: DatasetVersion, routine: Routine) -> bool:
    if version.work is None:
        return False
    work: Mapping[str, Any] = json.loads(version.work)
    return work.get("routine") == routine.name and work.get("sources") == list(routine.sources)
