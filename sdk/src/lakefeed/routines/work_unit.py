"""Units of work: pending versions are joined, left out or split into commits."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lakefeed.catalog import DatasetVersion
from lakefeed.dataset import Dataset, pinned_dataset, plan_of, rows_changed_after
from lakefeed.errors import CommitConflictError
from lakefeed.plan import lineage
from lakefeed.routines.pending import Pending, VersionRange
from lakefeed.routines.routine_position import Position, to_text
from lakefeed.routines.skipped_rows import SkippedRows


@dataclass(frozen=True)
class SourcePart:
    """The rows of one source that one commit reads.

    Attributes:
        range: the pending versions of the source.
        versions: the versions that are read. Without any, the position in the source stays.
        skipped: the versions that are left out, with the reasons.
        begin: the index of the first row that is read.
        end: the index after the last row that is read; None for the end of the last version.
        skipped_rows: the ranges of rows before ``begin`` that are left out.
    """

    range: VersionRange
    versions: tuple[DatasetVersion, ...] = ()
    skipped: tuple[tuple[int, str], ...] = ()
    begin: int = 0
    end: int | None = None
    skipped_rows: tuple[SkippedRows, ...] = ()

    @property
    def reached(self) -> Position | None:
        """The position after the commit."""
        last = max(
            [version.version for version in self.versions] + [number for number, _ in self.skipped], default=None
        )
        if last is None:
            return self.range.position
        ids = self.range.snapshot_ids
        if self.end is None:
            return Position(self.range.table_uuid, last, snapshot_id=ids.get(last))
        done = self.range.done_before(last) or 0
        return Position(self.range.table_uuid, done, last, self.end, ids.get(done), ids.get(last))

    @property
    def rows(self) -> int:
        """The number of rows, as recorded by their commits."""
        if self.end is not None:
            return self.end - self.begin
        return max(0, sum(map(self.range.rows_of, self.versions)) - self.begin)

    @property
    def dataset(self) -> Dataset:
        """The rows. Without versions these are the columns of the source without rows."""
        if not self.versions:
            return Dataset(self.range.source).head(0)
        known, last = self.range.done_before(self.versions[0].version), self.versions[-1].version
        source = pinned_dataset(self.range.source, last, self.range.table_uuid)
        if known is None:
            rows = source.removed_since() if self.range.removed else source.added_since()
        else:
            rows = rows_changed_after(source, "removed" if self.range.removed else "added", known)
        self._check_snapshot(rows)
        # A plain Dataset either way, for iterating it gives rows; what `added_since` gives iterates batches.
        whole = (self.begin, self.end) == (0, None)
        return rows.select(rows.schema.names) if whole else rows.slice(self.begin, self.end)

    def _check_snapshot(self, rows: Dataset) -> None:
        """Raises where another program has moved the numbers of versions since they were looked at."""
        (origin,) = lineage(plan_of(rows, "a routine")).origins
        if origin.snapshot_id != self.versions[-1].snapshot_id:
            raise CommitConflictError(
                f"another program has just expired snapshots of {self.range.source!r}, and the numbers of its versions "
                "have moved; nothing was written. Run the routine again"
            )


@dataclass(frozen=True)
class WorkUnit:
    """The work of one commit."""

    pending: Pending
    parts: tuple[SourcePart, ...]

    @property
    def value(self) -> str:
        """The value of the fence after the commit."""
        return to_text([part.reached for part in self.parts]) or ""

    @property
    def reads(self) -> bool:
        """True if the function is called."""
        return any(part.versions for part in self.parts)

    @property
    def rows(self) -> int:
        """The number of rows that are passed to the function."""
        return sum(part.rows for part in self.parts)

    @property
    def reading(self) -> SourcePart | None:
        """The part of the only source with rows to read; None with several."""
        parts = [part for part in self.parts if part.versions]
        return parts[0] if len(parts) == 1 else None

    @property
    def may_end_early(self) -> bool:
        """True if a position can lie between any two of the rows: they are those of one version."""
        return self.reading is not None and len(self.reading.versions) == 1

    def until(self, row: int) -> WorkUnit:
        """Returns the work up to a row, which is not part of it. For a unit that `may_end_early`."""
        return self.between(None, row)

    def between(self, begin: int | None, end: int | None) -> WorkUnit:
        """Returns the work with other bounds of its only part; None keeps a bound."""
        changed = [
            replace(part, begin=part.begin if begin is None else begin, end=part.end if end is None else end)
            if part.versions
            else part
            for part in self.parts
        ]
        return replace(self, parts=tuple(changed))

    @property
    def last_version(self) -> int:
        """The last version of the first source of which rows are read, or left out; 0 if there is none."""
        reached = self.parts[0].reached
        return 0 if reached is None else max(reached.version, reached.within or 0)

    @property
    def depth(self) -> int:
        """The number of routines that the rows will have passed."""
        return 1 + max((version.depth for part in self.parts for version in part.versions), default=0)

    def token(self, fence: str) -> str:
        """Returns a text that depends only on the rows that are read and on the fence."""
        rows = [
            (p.range.source, p.range.table_uuid, [v.version for v in p.versions], p.begin, p.end) for p in self.parts
        ]
        return hashlib.sha256(f"{fence} {rows}".encode()).hexdigest()[:32]


def next_work_unit(pending: Pending, together: int | None, most: int | None) -> WorkUnit:
    """Returns the next commit: versions of up to ``together`` rows, and at most ``most`` rows.

    With ``together=None`` all versions are joined, with 0 none. Versions that are left out before them are part of it.
    If there are only such versions, the unit reads nothing.
    """
    parts = [SourcePart(each) for each in pending.ranges]
    rows = 0
    for index, version in _by_commit_time(pending.ranges):
        part, reason = parts[index], (pending.ranges[index].left_out or {}).get(version.version)
        if reason is not None:
            if part.versions:  # the versions of a part stand side by side
                break
            parts[index] = replace(part, skipped=(*part.skipped, (version.version, reason)))
            continue
        begin = part.range.begin if version is part.range.versions[0] else 0
        if version.version in part.range.skipped_rows:
            if not part.versions:  # else such a version is read by itself
                parts[index] = _without_skipped(part, version, begin, most)
            break
        fresh = max(0, part.range.rows_of(version) - begin)
        if most is not None and rows + fresh > most:
            if rows == 0:
                parts[index] = replace(part, versions=(version,), begin=begin, end=begin + most)
            break
        parts[index] = replace(part, versions=(*part.versions, version), begin=part.begin or begin)
        rows += fresh
        if together is not None and rows >= together:
            break
    return WorkUnit(pending, tuple(parts))


def _without_skipped(part: SourcePart, version: DatasetVersion, begin: int, most: int | None) -> SourcePart:
    """Returns the part with the first rows of a version that are not left out."""
    passed, end = [], None
    for each in part.range.skipped_rows[version.version]:
        if each.start > begin:
            end = each.start
            break
        if each.stop > begin:
            begin = each.stop
            passed.append(each)
    rows = max(0, part.range.rows_of(version) - begin)
    if most is not None and (rows if end is None else end - begin) > most:
        end = begin + most
    return replace(part, versions=(version,), begin=begin, end=end, skipped_rows=tuple(passed))


def _by_commit_time(ranges: Sequence[VersionRange]) -> Iterator[tuple[int, DatasetVersion]]:
    """Yields the versions of all sources by the time of their commits. Those of one source keep their order."""

    def with_times(index: int, source_range: VersionRange) -> Iterator[tuple[int, int, int, DatasetVersion]]:
        latest = 0
        for version in source_range.versions:
            latest = max(latest, version.timestamp_ms)  # a clock that went backwards must not turn versions around
            yield latest, index, version.version, version

    merged = heapq.merge(
        *(with_times(index, source_range) for index, source_range in enumerate(ranges)), key=lambda each: each[:3]
    )
    return ((index, version) for _, index, _, version in merged)


def leave_out_version(pending: Pending, source: str, version: int, reason: str) -> Pending:
    """Returns the pending versions with one more left out."""

    def with_reason(source_range: VersionRange) -> VersionRange:
        reasons: Mapping[int, str] = source_range.left_out or {}
        return (
            replace(source_range, left_out={**reasons, version: reason})
            if source_range.source == source
            else source_range
        )

    return replace(pending, ranges=tuple(map(with_reason, pending.ranges)))
