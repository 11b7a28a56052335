"""Ranges of rows that a routine leaves out, as they are stored with its position."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import attrgetter

from lakefeed.routines.routine_declaration import Routine


@dataclass(frozen=True, order=True)
class SkippedRows:
    """The rows ``[start, stop)`` of those that a version added, which are not passed to the function.

    Attributes:
        table: the uuid of the source's table.
        version: the version.
        start: the position of the first row.
        stop: the position after the last row.
        reason: the reason.
    """

    table: str
    version: int
    start: int
    stop: int
    reason: str

    def __str__(self) -> str:
        rows = f"row {self.start}" if self.stop == self.start + 1 else f"rows {self.start} to {self.stop - 1}"
        return f"{rows} of v{self.version} {self.reason}"


def skips_key(routine: Routine) -> str:
    """Returns the key under which the rows to leave out are stored with the target."""
    return f"{routine.fence}#skips"


def errors_key(routine: Routine) -> str:
    """Returns the key under which the reference to the failed rows is stored with the target."""
    return f"{routine.fence}#errors"


def from_json(text: str | None) -> tuple[SkippedRows, ...]:
    """Returns the ranges that `to_json` wrote, in order."""
    return tuple(sorted(SkippedRows(**each) for each in json.loads(text or "[]")))


def to_json(skipped: Iterable[SkippedRows]) -> str:
    """Returns the ranges as text."""
    return json.dumps([asdict(each) for each in sorted(skipped)], separators=(",", ":"))


def of_table(skipped: Sequence[SkippedRows], table_uuid: str) -> Mapping[int, tuple[SkippedRows, ...]]:
    """Returns the ranges of a table by version."""
    own = (each for each in skipped if each.table == table_uuid)
    return {version: tuple(ranges) for version, ranges in groupby(own, attrgetter("version"))}
