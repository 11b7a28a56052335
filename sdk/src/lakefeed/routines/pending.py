"""`pending`: the versions that a routine has yet to read, and those that it leaves out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import TypeAlias

from pyiceberg.table import Table

from lakefeed.catalog import DatasetVersion, Lake, fence_value, list_versions
from lakefeed.catalog.deltas import count_rows_over_gap
from lakefeed.catalog.version_numbers import ids_of_unstored_numbers
from lakefeed.catalog.versions import steps_between, version_of
from lakefeed.errors import DatasetNotFoundError, InvalidArgumentError, StateMismatchError
from lakefeed.routines.late_versions import find_late_versions
from lakefeed.routines.other_positions import check_first_read
from lakefeed.routines.routine_declaration import Routine
from lakefeed.routines.routine_position import Position, from_text
from lakefeed.routines.skipped_rows import SkippedRows, errors_key, from_json, of_table, skips_key
from lakefeed.routines.snapshots import located

# Whether the versions of each source passed their checks; one that is missing is not checked yet.
Verdicts: TypeAlias = Mapping[str, Mapping[int, bool]]
Bounds: TypeAlias = int | Mapping[str, int] | None

# Snapshots that hold the same rows in other files, or fewer rows: nothing for a routine to read.
ADDS_NOTHING = frozenset({"replace", "delete"})
REMOVES_NOTHING = frozenset({"append", "replace"})


@dataclass(frozen=True)
class VersionRange:
    """The versions that a routine has yet to read of one source.

    Attributes:
        source: the dataset.
        table_uuid: its table.
        position: the routine's position in it; None before the first commit.
        versions: the versions with unread rows, oldest first.
        known: the numbers of all versions of the source, oldest first.
        removed: the routine reads removed rows instead of added rows.
        begin: the number of rows of the first version that are done.
        left_out: for the versions that are not passed to the function, the reasons.
        over_gaps: for some versions, the number of rows of expired versions that are read with them.
        skipped_rows: for some versions, ranges of rows that are left out.
    """

    source: str
    table_uuid: str
    position: Position | None
    versions: tuple[DatasetVersion, ...]
    known: tuple[int, ...]
    removed: bool = False
    begin: int = 0
    left_out: Mapping[int, str] | None = None
    over_gaps: Mapping[int, int] = field(default_factory=dict)
    snapshot_ids: Mapping[int, int] = field(default_factory=dict)
    skipped_rows: Mapping[int, tuple[SkippedRows, ...]] = field(default_factory=dict)

    @property
    def from_version(self) -> int | None:
        """The version before the first that is to be read; None at the beginning."""
        return self.before(self.versions[0].version) if self.versions else self.reached

    @property
    def to_version(self) -> int | None:
        """The last version that is to be read."""
        return self.versions[-1].version if self.versions else self.reached

    @property
    def reached(self) -> int | None:
        """The newest version that is done. It may have been rolled back since."""
        return None if self.position is None else self.position.version

    @property
    def rows(self) -> int:
        """The number of rows to pass to the function, as recorded by their commits."""
        skipped = self.left_out or {}
        counted = sum(self.rows_of(version) for version in self.versions if version.version not in skipped)
        return max(0, counted - (self.begin if self.versions and self.versions[0].version not in skipped else 0))

    def rows_of(self, version: DatasetVersion) -> int:
        """Returns the number of rows that a version has for this routine.

        Args:
            version: the version.
        """
        own = version.deleted_records if self.removed else version.added_records
        return own + self.over_gaps.get(version.version, 0)

    def before(self, version: int) -> int | None:
        """Returns the version before another; None before the first.

        Args:
            version: the number of the other version.
        """
        return max((number for number in self.known if number < version), default=None)

    def done_before(self, version: int) -> int | None:
        """Returns the number up to which rows are done when a version is read. Its version may have expired.

        Args:
            version: the number of the version that is read.
        """
        numbers = (self.before(version), self.reached)
        return max((number for number in numbers if number is not None and number < version), default=None)

    def up_to(self, version: int) -> VersionRange:
        """Returns the range without later versions.

        Args:
            version: the number of the last version.
        """
        return replace(self, versions=tuple(takewhile(lambda each: each.version <= version, self.versions)))

    def as_of(self, timestamp_ms: float, now_ms: float) -> VersionRange:
        """Returns the range up to, but without, the first version that is newer than a time.

        A version from the future was written before the clock was set back. It does not hold up others.

        Args:
            timestamp_ms: the time in milliseconds since 1970.
            now_ms: the current time in milliseconds since 1970.
        """
        there = takewhile(lambda each: not timestamp_ms < each.timestamp_ms <= now_ms, self.versions)
        return replace(self, versions=tuple(there))


@dataclass(frozen=True)
class Pending:
    """The versions that a routine has yet to read in all sources.

    Attributes:
        stored: the value of the fence from which this follows.
        ranges: one range for each source.
        remade: a source was deleted and made again.
        skips: the stored ranges of rows to leave out.
        errors: the stored reference to the failed rows.
    """

    stored: str | None
    ranges: tuple[VersionRange, ...]
    remade: bool = False
    skips: str | None = None
    errors: str | None = None

    @property
    def versions(self) -> tuple[DatasetVersion, ...]:
        """The versions of all sources."""
        return tuple(version for each in self.ranges for version in each.versions)

    @property
    def rows(self) -> int:
        """The number of rows to pass to the function, as recorded by their commits."""
        return sum(each.rows for each in self.ranges)

    @property
    def from_version(self) -> int | None:
        """`VersionRange.from_version` of the first source."""
        return self.ranges[0].from_version

    @property
    def to_version(self) -> int:
        """`VersionRange.to_version` of the first source; 0 if none of it was ever read."""
        return self.ranges[0].to_version or 0


def position(routine: Routine) -> Position | None:
    """Returns the routine's position in its first source, as stored with the output; None before its first commit.

    Args:
        routine: the routine.
    """
    at = from_text(stored_value(routine), len(routine.sources))[0]
    table = table_or_none(routine.sources[0]) if at is not None and at.snapshot_id is not None else None
    if at is None or table is None or at.table_uuid != str(table.metadata.table_uuid):
        return at
    return located(at, table)


def pending(
    routine: Routine, up_to: Bounds = None, *, after: int | None = None, verdicts: Verdicts | None = None
) -> Pending | None:
    """Returns the versions that a routine has yet to read; None if there are none.

    Nothing is read before every source exists. An output that does not exist starts with the first version. A source
    that was deleted and made again is new as a whole, unless ``on_remade`` is "stop".

    Args:
        routine: the routine.
        up_to: the last version to read, for several sources a mapping. None reads up to the newest.
        after: leave out versions up to this number.
        verdicts: whether the versions of each source passed their checks. With ``only_checked``, reading stops at the
            first version without a verdict.

    Raises:
        StateMismatchError: a source was deleted and made again, and ``on_remade`` is "stop"; or the routine has no
            position, but another routine has read one of its sources into the same output.
        InvalidArgumentError: the routine has ``only_checked`` but no verdicts are given, or a bound is not a version.
    """
    if routine.only_checked and verdicts is None:
        raise InvalidArgumentError(
            f"routine {routine.name!r} reads only checked versions: pass their verdicts with verdicts="
        )
    _check_first_read(routine)
    stored, skips, errors = _stored_values(routine)
    positions = from_text(stored, len(routine.sources))
    looked_at = [
        _range_of(routine, source, at, _bound_of(routine, up_to, source), after, (verdicts or {}).get(source))
        for source, at in zip(routine.sources, positions, strict=True)
    ]
    skipped = from_json(skips)
    ranges = tuple(replace(each, skipped_rows=of_table(skipped, each.table_uuid)) for each, _ in looked_at)
    if not (any(each.versions for each in ranges) and all(each.known for each in ranges)):
        return None
    return Pending(stored, ranges, any(remade for _, remade in looked_at), skips, errors)


def _check_first_read(routine: Routine) -> None:
    target = table_or_none(routine.target)
    if target is not None and fence_value(target, routine.fence) is None:
        check_first_read(routine, target)


def stored_value(routine: Routine) -> str | None:
    """Returns the value of the routine's fence; None before its first commit."""
    return _stored_values(routine)[0]


def _stored_values(routine: Routine) -> tuple[str | None, str | None, str | None]:
    """Returns the position, the rows to leave out, and the reference to the failed rows."""
    target = table_or_none(routine.target)
    if target is None:
        return None, None, None
    position_text, skips, errors = (
        fence_value(target, key) for key in (routine.fence, skips_key(routine), errors_key(routine))
    )
    return position_text, skips, errors


def table_or_none(name: str) -> Table | None:
    """Returns the table of a dataset; None if it does not exist."""
    try:
        return Lake.current().table(name)
    except DatasetNotFoundError:
        return None


def _range_of(
    routine: Routine,
    source: str,
    at: Position | None,
    up_to: int | None,
    after: int | None,
    verdicts: Mapping[int, bool] | None,
) -> tuple[VersionRange, bool]:
    table = table_or_none(source)
    if table is None:
        return VersionRange(source, at.table_uuid if at else "", at, (), ()), False
    table_uuid = str(table.metadata.table_uuid)
    remade = at is not None and at.table_uuid != table_uuid
    if at is not None and remade and routine.on_remade == "stop":
        raise StateMismatchError(
            f"routine {routine.name!r} has read {source!r} as table {at.table_uuid}, but it is now table {table_uuid}: "
            f"deleted and made again. Delete {routine.target!r}, write elsewhere, or declare "
            'on_remade="continue" or "replace"'
        )
    start = None if remade or at is None else located(at, table)
    below = find_late_versions(routine, source, table, table_or_none(routine.target), start) if start else frozenset()
    first = min([start.version, *(number - 1 for number in below)]) if start else None
    over_gaps = _over_gaps(table, first, routine.reads_removed)
    unread = range_after(list_versions(table), table_uuid, start, source, routine.reads_removed, over_gaps, below)
    unread = replace(unread, snapshot_ids=ids_of_unstored_numbers(table))
    if remade and not unread.versions:
        # Nothing to read yet: the position stays with the old table until there is.
        return replace(unread, position=at), False
    bounded = unread if up_to is None else unread.up_to(up_to)
    if routine.only_checked:
        bounded = replace(bounded, versions=tuple(takewhile(lambda v: v.version in (verdicts or {}), bounded.versions)))
    return replace(bounded, left_out=_left_out(routine, bounded.versions, after, verdicts)), remade


def range_after(
    newest_first: Sequence[DatasetVersion],
    table_uuid: str,
    at: Position | None,
    source: str = "",
    removed: bool = False,
    over_gaps: Mapping[int, int] | None = None,
    below: Collection[int] = (),
) -> VersionRange:
    """Returns the range of versions after a position. After a rollback it continues with the current versions.

    ``below`` are unread versions with lower numbers.
    """
    done, over = 0 if at is None else at.version, over_gaps or {}
    fresh = (version for version in reversed(newest_first) if version.version > done or version.version in below)
    versions = tuple(v for v in fresh if (_removes if removed else _adds)(v) or over.get(v.version))
    begun = at is not None and bool(versions) and at.within == versions[0].version
    known = tuple(version.version for version in reversed(newest_first))
    begin = at.rows if at is not None and begun else 0
    return VersionRange(source, table_uuid, at, versions, known, removed, begin, over_gaps=over)


def _over_gaps(table: Table, start: int | None, removed: bool) -> dict[int, int]:
    """Returns for some versions after ``start`` the most rows that expired versions before them contributed.

    Raises:
        UnsupportedError: which of these rows are new is unknown.
    """
    rows = {}
    for step in steps_between(table, start, None):
        version = version_of(step.after)
        if start is None and step.before is None:
            # What is left of the oldest versions comes with the oldest that is kept.
            rows[version.version] = 0 if removed else max(0, version.total_records - version.added_records)
        elif step.has_gap:
            rows[version.version] = count_rows_over_gap(table, step, removed)
    return rows


def _left_out(
    routine: Routine, versions: Sequence[DatasetVersion], after: int | None, verdicts: Mapping[int, bool] | None
) -> dict[int, str]:
    reasons: dict[int, str] = {}
    for version in versions:
        if after is not None and version.version <= after:
            reasons[version.version] = f"left out: the run reads only versions after v{after}"
        elif version.depth >= routine.max_depth:
            reasons[version.version] = (
                f"left out: its rows passed {version.depth} routines, the limit of {routine.name!r}; the routines may "
                "form a cycle"
            )
        elif routine.only_checked and not (verdicts or {}).get(version.version):
            reasons[version.version] = "left out: a check failed"
    return reasons


def _bound_of(routine: Routine, up_to: Bounds, source: str) -> int | None:
    if isinstance(up_to, Mapping):
        unknown = sorted(set(up_to).difference(routine.sources))
        if unknown:
            raise InvalidArgumentError(f"routine {routine.name!r} reads {routine.sources}, not {unknown}")
        return up_to.get(source)
    if up_to is not None and len(routine.sources) > 1:
        raise InvalidArgumentError(f"routine {routine.name!r} has several sources: give up_to as {{source: version}}")
    return up_to


def _adds(version: DatasetVersion) -> bool:
    return version.operation not in ADDS_NOTHING and version.added_records > 0


def _removes(version: DatasetVersion) -> bool:
    return version.operation not in REMOVES_NOTHING and version.deleted_records > 0
