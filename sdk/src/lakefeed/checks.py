"""Checks of a version: each examines the rows that the version added, or the dataset as of the version.

A check is a frozen dataclass with a ``name`` and a ``check(profile)``, which returns a `Verdict`; a new one needs
nothing else. Each takes ``name=``, by which records and Dagster call it, and ``blocking=``: a version that fails a
blocking check is kept from routines that read only checked versions. Other checks warn.
"""

from __future__ import annotations

import hashlib
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.compute as pc

from lakefeed.catalog import Lake
from lakefeed.dataset import Dataset
from lakefeed.errors import (
    ColumnNotFoundError,
    FileError,
    InvalidArgumentError,
    LakefeedError,
    TransformError,
    UnreachableError,
    quoted_list,
)
from lakefeed.plan.duplicate_names import duplicate_names
from lakefeed.profiles import Profile, is_unreachable
from lakefeed.storage.remote.outages import is_outage

MAX_EXAMPLES = 5
# Of the arguments in the name of a check.
MAX_LABEL_CHARACTERS = 60


@dataclass(frozen=True)
class Verdict:
    """The result of a check. ``problem`` gives the reason of a failure, ``facts`` are numbers to plot."""

    passed: bool
    problem: str = ""
    facts: Mapping[str, float | int | str] = field(default_factory=dict)


@runtime_checkable
class Check(Protocol):
    """The interface of a check. ``check`` may read the version's rows. It changes nothing and may be called again."""

    @property
    def name(self) -> str: ...
    @property
    def blocking(self) -> bool: ...
    def check(self, profile: Profile) -> Verdict: ...


@dataclass(frozen=True)
class Readable:
    """All rows that the commit recorded can be read. Every dataset has this check."""

    name: str = "readable"
    blocking: bool = True

    def check(self, profile: Profile) -> Verdict:
        version = profile.version
        facts = {"rows_read": profile.rows}
        if profile.unread is not None:
            return Verdict(False, profile.unread, facts)
        # Other programs may write rows again that were there before; those are not among what was added.
        if profile.rows != version.added_records and version.operation == "append":
            return Verdict(False, f"{profile.rows} rows read, {version.added_records} committed", facts)
        return Verdict(True, facts=facts)


@dataclass(frozen=True)
class HasSchema:
    """The version has these columns with these types, and other columns only with ``more``."""

    schema: pa.Schema
    more: bool = False
    blocking: bool = True
    name: str = "schema"

    def check(self, profile: Profile) -> Verdict:
        problems = [
            f"{want.name!r} is {profile.schema.field(want.name).type}, not {want.type}"
            for want in self.schema
            if want.name in profile.schema.names and profile.schema.field(want.name).type != want.type
        ]
        wanted, there = frozenset(self.schema.names), frozenset(profile.schema.names)
        missing = [name for name in self.schema.names if name not in there]
        further = [name for name in profile.schema.names if name not in wanted and not self.more]
        problems += [f"column {name!r} is missing" for name in missing] + [
            f"column {name!r} is unexpected" for name in further
        ]
        return Verdict(not problems, "; ".join(problems[:MAX_EXAMPLES]))


@dataclass(frozen=True)
class NotNull:
    """In each of the columns, at most the share ``at_most`` of the added rows is null."""

    columns: str | tuple[str, ...]
    at_most: float = 0.0
    blocking: bool = True
    name: str = "nulls"

    def check(self, profile: Profile) -> Verdict:
        shares = {}
        for column in _columns(self.columns, profile):
            statistics = profile.columns.get(column)
            total = statistics.nulls + statistics.values if statistics else 0
            shares[column] = statistics.nulls / total if statistics and total else 0.0
        bad = [f"{column!r}: {share:.1%} null" for column, share in shares.items() if share > self.at_most]
        return Verdict(
            not bad, "; ".join(bad[:MAX_EXAMPLES]), {f"null_share_{name}": share for name, share in shares.items()}
        )


@dataclass(frozen=True)
class Unique:
    """No two rows share a key: in the whole dataset as of the version, or among its added rows with ``whole=False``."""

    keys: str | tuple[str, ...]
    whole: bool = True
    blocking: bool = True
    name: str = "unique"

    def check(self, profile: Profile) -> Verdict:
        keys = _columns(self.keys, profile)
        rows = Dataset(profile.name, version=profile.version.version) if self.whole else profile.added
        # SQL does not tell capitals from small letters.
        columns = [f"k{place}" for place in range(len(keys))]
        named = ", ".join(columns)
        twice = (
            rows.select(keys)
            .rename(dict(zip(keys, columns, strict=True)))
            .sql(
                f"SELECT {named}, count(*) AS times FROM data "
                f"GROUP BY {named} HAVING count(*) > 1 ORDER BY ALL LIMIT {MAX_EXAMPLES}"
            )
        )
        shown = [dict(row) for row in twice.rows()]
        examples = "; ".join(f"{[row[column] for column in columns]} {row['times']} times" for row in shown)
        return Verdict(not shown, f"keys that are not unique: {examples}" if shown else "")


@dataclass(frozen=True)
class InRange:
    """Every non-null value of the column lies between ``least`` and ``greatest``. None sets no bound."""

    column: str
    least: Any = None
    greatest: Any = None
    blocking: bool = True
    name: str = "range"

    def check(self, profile: Profile) -> Verdict:
        [column] = _columns(self.column, profile)
        statistics = profile.columns.get(column)
        if statistics is None or not statistics.values:
            return Verdict(True)
        low = self.least is not None and (statistics.least is None or statistics.least < self.least)
        high = self.greatest is not None and (statistics.greatest is None or statistics.greatest > self.greatest)
        span = f"{column!r} is {statistics.least} to {statistics.greatest}, "
        wanted = f"wanted: {_text(self.least)} to {_text(self.greatest)}"
        return Verdict(not (low or high), span + wanted if low or high else "")


@dataclass(frozen=True)
class RowCount:
    """The number of added rows lies between ``least`` and ``greatest``.

    ``max_growth`` and ``max_loss`` limit the change of the total, as shares of the total before.
    """

    least: int = 0
    greatest: int | None = None
    max_growth: float | None = None
    max_loss: float | None = None
    blocking: bool = True
    name: str = "row_count"

    def check(self, profile: Profile) -> Verdict:
        version = profile.version
        added, change = version.added_records, version.net_records
        before = version.total_records - change
        share = change / before if before > 0 else 0.0
        problems = []
        if added < self.least:
            problems.append(f"{added} rows added, at least {self.least} wanted")
        if self.greatest is not None and added > self.greatest:
            problems.append(f"{added} rows added, at most {self.greatest} wanted")
        if self.max_growth is not None and share > self.max_growth:
            problems.append(f"{share:+.1%} rows, at most {self.max_growth:+.1%} wanted")
        if self.max_loss is not None and -share > self.max_loss:
            problems.append(f"{share:+.1%} rows, at most {-self.max_loss:+.1%} wanted")
        return Verdict(not problems, "; ".join(problems), {"rows_added": added, "change": share})


@dataclass(frozen=True)
class Fresh:
    """The newest value of a time column is at most ``max_age`` seconds older than the commit.

    Without a column, the commit itself is at most that old.
    """

    max_age: float
    column: str | None = None
    blocking: bool = False
    name: str = "fresh"

    def check(self, profile: Profile) -> Verdict:
        committed = profile.version.timestamp_ms / 1000
        if self.column is None:
            age = time.time() - committed
        else:
            [column] = _columns(self.column, profile)
            newest = profile.columns[column].greatest if column in profile.columns else None
            if newest is None:
                return Verdict(False, f"no time in {column!r}")
            seconds = pc.cast(pa.scalar(newest), pa.timestamp("us")).cast(pa.int64()).as_py() / 1e6
            age = committed - seconds
        late = f"{age:.0f} s old, at most {self.max_age:.0f} s wanted" if age > self.max_age else ""
        return Verdict(not late, late, {"age_seconds": round(age, 3)})


@dataclass(frozen=True)
class FilesIntact:
    """The files that the rows name are in the store, and ``sample`` of them (None: all) have the recorded content."""

    sample: int | None = 20
    blocking: bool = True
    name: str = "files"

    def check(self, profile: Profile) -> Verdict:
        store = Lake.current().blobs
        digests = list(_digests(profile) if self.sample is None else profile.digests)
        missing = [digest for digest in digests if not store.has(digest)]
        if missing:
            store.require_reachable()
        there = [digest for digest in digests if digest not in set(missing)]
        drawn = there if self.sample is None else random.Random(0).sample(there, min(self.sample, len(there)))
        damaged = []
        for digest in drawn:
            try:
                store.read(digest)
            except FileError as error:
                if is_outage(error):
                    raise
                store.require_reachable()
                damaged.append(digest)
        problems = ([f"missing: {quoted_list(missing, MAX_EXAMPLES)}"] if missing else []) + (
            [f"damaged: {quoted_list(damaged, MAX_EXAMPLES)}"] if damaged else []
        )
        return Verdict(not problems, "; ".join(problems), {"files_looked_up": len(digests), "files_read": len(drawn)})


@dataclass(frozen=True)
class Custom:
    """``fn`` of the rows that the version added.

    It returns a `Verdict`; or a bool, True for a pass; or a text that describes a problem, or None for a pass.
    """

    name: str
    fn: Callable[[Dataset], Verdict | bool | str | None]
    blocking: bool = True

    def check(self, profile: Profile) -> Verdict:
        said = self.fn(profile.added)
        if isinstance(said, Verdict):
            return said
        if isinstance(said, bool):
            return Verdict(said, "" if said else f"{self.name} is not true")
        if said is None or isinstance(said, str):
            return Verdict(not said, said or "")
        raise TransformError(
            f"check {self.name!r} returned a {type(said).__name__}; it must return a Verdict, a bool, or text (what is "
            "wrong) or None"
        )


def evaluate(check: Check, profile: Profile) -> Verdict:
    """Returns the verdict of a check. A version that the check cannot process fails it.

    Args:
        check: the check.
        profile: the profile of the version.

    Raises:
        UnreachableError: a store, server or catalog cannot be reached, so the version is not checked. Try again later.
    """
    if profile.unreachable is not None:
        raise UnreachableError(
            f"version {profile.version.version} of {profile.name!r} is not checked: {profile.unreachable}"
        )
    if profile.unread is not None and not isinstance(check, Readable):
        return Verdict(False, f"not checked: {profile.unread}")
    try:
        return check.check(profile)
    except (LakefeedError, OSError) as error:
        if is_unreachable(error):
            raise UnreachableError(
                f"version {profile.version.version} of {profile.name!r} is not checked: "
                f"{check.name!r} cannot read it: {error}"
            ) from error
        if not isinstance(error, LakefeedError):
            raise
        return Verdict(False, f"{type(error).__name__}: {error}")


def check_names(checks: Sequence[Check]) -> list[str]:
    """Returns the name of each check of a dataset.

    Where checks share the name that their class gives them, their arguments are added, so that the names are unique.

    Args:
        checks: the checks of one dataset.

    Raises:
        InvalidArgumentError: two checks have the same arguments or were given the same name, or an item is not a check.

    Example:
        >>> check_names([NotNull("id"), NotNull("image"), Unique("id")])
        ['nulls_id', 'nulls_image', 'unique']
    """
    for each in checks:
        if not isinstance(each, Check):
            raise InvalidArgumentError(f"{each!r} is not a check: a check has name, blocking and check(profile)")
    shared = set(duplicate_names([each.name for each in checks]))
    arguments = [_arguments_text(each) if each.name in shared else "" for each in checks]
    names = [_name_with(each.name, text) for each, text in zip(checks, arguments, strict=True)]
    # Different arguments may have the same letters and digits: InRange("x", -1) and InRange("x", 1).
    shared = set(duplicate_names(names))
    names = [
        f"{name}_{hashlib.sha256(text.encode()).hexdigest()[:8]}" if name in shared and text else name
        for name, text in zip(names, arguments, strict=True)
    ]
    twice = duplicate_names(names)
    if twice:
        raise InvalidArgumentError(
            f"the names of a dataset's checks must be unique: give name= to one of those named {quoted_list(twice)}, "
            "or remove one of two equal checks"
        )
    return names


def _arguments_text(check: Check) -> str:
    """Returns the arguments of a check that differ from their defaults; "" for a check that was given its name."""
    entries: dict[str, Field[Any]] = dict(getattr(check, "__dataclass_fields__", {}))  # a check may be any object
    if "name" in entries and entries.pop("name").default != check.name:
        return ""
    texts = []
    for name, entry in entries.items():
        value = getattr(check, name)
        if entry.default is MISSING:
            texts.append(_argument_text(value))
        elif value != entry.default:
            texts.append(f"{name} {_argument_text(value)}")
    return " ".join(texts)


def _argument_text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return getattr(value, "__qualname__", None) or str(value)


def _name_with(name: str, arguments: str) -> str:
    label = re.sub(r"[^A-Za-z0-9_]+", "_", arguments)[:MAX_LABEL_CHARACTERS].strip("_")
    return f"{name}_{label}" if label else name


def _columns(names: str | Sequence[str], profile: Profile) -> list[str]:
    wanted = [names] if isinstance(names, str) else list(names)
    missing = [name for name in wanted if name not in profile.schema.names]
    if missing:
        raise ColumnNotFoundError.of(missing, profile.schema.names, profile.name)
    return wanted


def _digests(profile: Profile) -> Iterator[str]:
    """Yields the digests of all files, including those that the profile left out."""
    known: set[str] = set()
    files = [each.name for each in profile.schema if pa.types.is_struct(each.type) and "sha256" in _fields(each.type)]
    for batch in profile.added.select(files).batches(format="arrow", load_files=False) if files else ():
        for values in batch.columns:
            fresh = set(pc.struct_field(values, "sha256").to_pylist()) - known - {None}
            known |= fresh
            yield from sorted(fresh)


def _fields(kind: pa.DataType) -> list[str]:
    return [kind.field(index).name for index in range(kind.num_fields)]


def _text(bound: Any) -> str:
    return "any" if bound is None else str(bound)
