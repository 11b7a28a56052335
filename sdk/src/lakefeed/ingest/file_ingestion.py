"""`FileSource`, and the ingestion of files: their rows and the ledger entry are one commit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from lakefeed._typing import ColumnTypes
from lakefeed.catalog import Fence, Provenance
from lakefeed.dataset import Dataset
from lakefeed.errors import FileError, InvalidArgumentError, LakefeedError, MissingFileError
from lakefeed.ingest import ledger, quarantine
from lakefeed.ingest.commit_plan import CommitPlan, plan_commit
from lakefeed.ingest.delivery_rows import (
    OWN_ERRORS,
    BadFileError,
    RepeatError,
    Setbacks,
    file_differs,
    next_try_ns,
    read_file,
    write_records,
)
from lakefeed.ingest.ingestion_source import FencedSource, IngestResult, ignore_lost_race, write_rows
from lakefeed.ingest.ledger import ListedFile
from lakefeed.ingest.quarantine import FileRecord, Records, read_records, shown_path

logger = logging.getLogger(__name__)

Drift: TypeAlias = Literal["fail", "evolve", "quarantine"]
Changed: TypeAlias = Literal["report", "append"]
OnError: TypeAlias = Literal["fail", "quarantine", "null"]

SECOND_LOOK_SECONDS = 1.0
"""The time between two looks at a file that must show it unchanged. Clocks of servers and copied times may be wrong."""


@dataclass(frozen=True)
class Arrivals:
    """The files of a source, compared with its ledger.

    Attributes:
        new: files that a run ingests now.
        settling: new files that were changed too recently.
        changed: ingested files that have changed since.
        vanished: ingested files that no longer exist. Their rows stay.
        failed: files that could not be read and wait for their next try.
    """

    new: tuple[ListedFile, ...]
    settling: tuple[ListedFile, ...]
    changed: tuple[ListedFile, ...]
    vanished: tuple[ListedFile, ...] = ()
    failed: tuple[ListedFile, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FileSource(FencedSource):
    """The base of all sources of files. It finds new files by comparing a listing with the ledger.

    All sources of files have these arguments, ``name`` and ``into`` also by position.

    Args:
        name: the name of the source. The ledger is stored under it.
        into: the dataset.
        read: a function that takes the path of a file (a URL as text) and returns its rows.
        column_types: the file columns of a new dataset.
        description: the description of a new dataset.
        settle: seconds. A file that changed more recently may still be written, so it waits. A run also looks twice,
            up to a second apart, and leaves files that differ for later, because clocks of servers and the times of
            copied files may be wrong.
        max_files: the most files of one commit.
        on_changed: "report" only reports a file that changed after its ingestion. "append" ingests it again as a new
            file; its earlier rows stay. The rows of a file that vanished stay, too.
        drift: the reaction to a file that does not fit the dataset. "fail" raises. "evolve" adds columns and widens
            types, and raises if that is impossible. "quarantine" puts the file, or its rows that do not fit, into the
            quarantine.
        on_error: the reaction to a row that names a file (an image) that is missing or cannot be read. "fail" leaves
            the delivered file for later, ingests the others and raises. "quarantine" puts the row into the quarantine.
            "null" does so too, and ingests the row with null in place of the file. None means "quarantine" with
            ``drift="quarantine"``, else "fail".

    Relative names of files in rows start from the folder of the delivered file. A file that cannot be read is tried
    again after a minute, then after two, and so on up to six hours, while the others are ingested.

    Raises:
        InvalidArgumentError: an argument is malformed.
    """

    name: str = field(kw_only=False)
    into: str = field(kw_only=False)
    read: Callable[[Any], Dataset] = read_file
    column_types: ColumnTypes | Literal["auto"] | None = "auto"
    description: str | None = None
    settle: float = 0.0
    max_files: int = 1_000
    on_changed: Changed = "report"
    drift: Drift = "fail"
    on_error: OnError | None = None

    def __post_init__(self) -> None:
        choices: dict[str, tuple[str | None, ...]] = {
            "on_changed": ("report", "append"),
            "drift": ("fail", "evolve", "quarantine"),
            "on_error": ("fail", "quarantine", "null", None),
        }
        for setting, allowed in choices.items():
            if getattr(self, setting) not in allowed:
                raise InvalidArgumentError(
                    f"ingest {self.name!r}: {setting} must be one of {allowed}, got {getattr(self, setting)!r}"
                )
        if self.max_files < 1:
            raise InvalidArgumentError(f"ingest {self.name!r}: max_files must be at least 1, got {self.max_files}")

    @property
    def row_policy(self) -> str:
        """The reaction to a row that names a file that cannot be stored: ``on_error``, or its default."""
        return self.on_error or ("quarantine" if self.drift == "quarantine" else "fail")

    @property
    def appears_whole(self) -> bool:
        """True if files appear only when they are complete, as in an object store."""
        return False

    def waiting(self) -> str | None:
        """Returns a short description of the new files; None if there are none. It commits nothing.

        Raises:
            FileError: the files cannot be listed.
        """
        new = arrivals(self).new
        return f"{len(new)} new, such as {shown_path(new[0].path)}" if new else None

    def take(self, provenance: Provenance) -> Iterator[IngestResult]:
        """Ingests the new files, and yields the result of each commit.

        Args:
            provenance: the run and code that write.

        Raises:
            FileError, SchemaError: as in `ingest`.
        """
        return ingest_files(self, provenance)

    def list_files(self) -> Iterable[ListedFile]:
        """Returns the files that exist now, in the order of their paths.

        Raises:
            FileError: the files cannot be listed.
        """
        raise NotImplementedError

    def scan_files(self) -> Iterable[tuple[str, int, int, str]]:
        """Returns the files as `list_files` does, or as plain tuples of the same values, in any order."""
        return self.list_files()

    def listed(self, status: tuple[str, int, int, str]) -> ListedFile:
        """Returns a result of `scan_files` as a file whose path can be stored."""
        return ListedFile._make(status)

    def ledger_path(self, path: str) -> str:
        """Returns the path under which the ledger records a file."""
        return path

    def location(self, path: str) -> Any:
        """Returns the argument of ``read`` for a file.

        Args:
            path: the path of the file in the ledger.
        """
        raise NotImplementedError

    def current(self, file: ListedFile) -> ListedFile:
        """Returns the current state of a file, or its state in the listing if the store does not tell.

        Args:
            file: the file as it was listed.

        Raises:
            MissingFileError: the file no longer exists.
        """
        return file


def arrivals(source: FileSource) -> Arrivals:
    """Returns the files of a source, compared with its ledger, in the order of their paths.

    A file that changed after its ingestion is reported and logged. It is read again only with ``on_changed="append"``.
    A folder that does not exist is empty.

    Args:
        source: the source.

    Raises:
        FileError: the files cannot be listed.
    """
    return _compare(source, _known_files(source, source.pointer()), read_records(source, source.ledger_path))


def ingest_files(source: FileSource, provenance: Provenance) -> Iterator[IngestResult]:
    """Ingests every new file of a source, at most ``max_files`` in a commit. Yields the result of each commit.

    A file that cannot go in does not stop the others. What the policies of the source call an error is raised last.
    """
    setbacks = Setbacks()
    handled: set[str] = set()
    while True:
        seen_at = time.monotonic()
        new = _compare(source, _known_files(source, source.pointer()), read_records(source, source.ledger_path)).new
        due = [file for file in new if file.path not in handled]
        if not due:
            break
        for start in range(0, len(due), source.max_files):
            files = _look_again(source, due[start : start + source.max_files], seen_at)
            yield from _ingest_listed(source, files, setbacks, provenance)
        handled.update(file.path for file in due)  # what changes meanwhile waits for a later run
    _finish(source, setbacks, provenance)


def _ingest_listed(
    source: FileSource, files: Sequence[ListedFile], setbacks: Setbacks, provenance: Provenance
) -> Iterator[IngestResult]:
    """Ingests some files in one commit, which is repeated without the files that turn out not to fit."""
    commit = replace(provenance, message=_message(source, files)) if files else provenance
    deep = False
    while True:
        before = source.pointer()
        known, records = _known_files(source, before), read_records(source, source.ledger_path)
        left = [file for file in files if not _is_done(source, file, known, setbacks)]
        if not left:
            return
        setbacks.whole.update({file: "" for file in left if records.of(file).whole and file not in setbacks.whole})
        plan = None
        try:
            with ignore_lost_race(source, before):
                plan = plan_commit(source, left, known, records, setbacks, commit, deep)
                if plan is None:
                    return
                yield _commit(source, plan, before)
                return
        except RepeatError:
            continue
        except BadFileError as error:
            _record_failures(source, {error.file: error.error}, set(), provenance)
            raise error.error from error.__cause__
        except OWN_ERRORS:
            raise
        except FileError:
            # A file that a row names vanished meanwhile, or cannot be read to its end: find out which.
            if deep or plan is None or not plan.types:
                raise
            deep = True


def _commit(source: FileSource, plan: CommitPlan, before: str | None) -> IngestResult:
    """Commits the rows of files, and the ledger with these files."""
    done = {source.ledger_path(file.path): file for file in plan.done}
    entries = [file for file in plan.known.values() if file.path not in done]
    entries += [file._replace(path=path) for path, file in done.items()]
    with ledger.store_ledger(entries) as value:
        fence = Fence(source.fence, expected=before, value=value)
        added, version = write_rows(plan.rows, source, plan.provenance, fence, plan.column_types)
    logger.info("ingest %s: %d files -> %s v%d", source.name, len(plan.done), source.into, version)
    setbacks = plan.setbacks
    whole = [file for file in plan.done if file in setbacks.whole]
    return IngestResult(
        tuple(file.path for file in plan.done if file not in setbacks.whole),
        added,
        version,
        tuple(sorted(file.path for file in (*whole, *plan.partly))),
        tuple(sorted(file.path for file in setbacks.failed)),
    )


def _finish(source: FileSource, setbacks: Setbacks, provenance: Provenance) -> None:
    """Records the files that could not be read. Raises the first error, unless the source tolerates errors."""
    if setbacks.failed:
        _record_failures(source, setbacks.failed, setbacks.incomplete, provenance)
    errors: list[LakefeedError] = [*setbacks.failed.values(), *setbacks.changing.values()]
    for error in errors:
        logger.warning("ingest %s: %s", source.name, error)
    if errors and source.drift != "quarantine":
        raise errors[0]


def _record_failures(
    source: FileSource, failed: Mapping[ListedFile, LakefeedError], incomplete: set[ListedFile], provenance: Provenance
) -> None:
    """Counts a failed attempt for each file. The first one of a file is an entry of the quarantine."""
    while True:
        records = read_records(source, source.ledger_path)
        now: dict[ListedFile, FileRecord] = {}
        for file, error in failed.items():
            attempts = records.of(file).attempts + 1
            next_try = next_try_ns(attempts, at_once=file not in incomplete)
            now[file] = records.of(file)._replace(attempts=attempts, next_try_ns=next_try, error=str(error))
        entries = [
            quarantine.file_entry(source, file, f"the file cannot be read, and is tried again later: {error}")
            for file, error in failed.items()
            if now[file].attempts == 1
        ]
        try:
            write_records(source, records, entries, now, _known_files(source, source.pointer()), provenance)
        except RepeatError:
            continue
        return


def _compare(source: FileSource, known: Mapping[str, ListedFile], records: Records) -> Arrivals:
    """Compares the files with the ledger. Costs little for files that are there as before."""
    others, paths, get = list[ListedFile](), list[str](), known.get
    for status in source.scan_files():
        paths.append(status[0])
        if get(status[0]) != status:
            others.append(source.listed(status))
    before = {file: get(source.ledger_path(file.path)) for file in sorted(others)}
    changed = tuple(file for file, earlier in before.items() if earlier is not None and file_differs(file, earlier))
    again = set(changed) if source.on_changed == "append" else set()
    for file in () if again else changed:
        logger.warning(
            "ingest %s: %s has changed since it was ingested; it is not read again",
            source.name,
            shown_path(file.path),
        )
    new = [file for file, earlier in before.items() if earlier is None or file in again]
    settling = {file for file in new if _may_be_open(file, source.settle)}
    failed = {file for file in new if file not in settling and _must_wait(source, records.of(file))}
    return Arrivals(
        tuple(file for file in new if file not in settling and file not in failed),
        tuple(file for file in new if file in settling),
        changed,
        _vanished(source, known, paths),
        tuple(file for file in new if file in failed),
    )


def _vanished(source: FileSource, known: Mapping[str, ListedFile], paths: Sequence[str]) -> tuple[ListedFile, ...]:
    present = sum(path in known for path in paths)
    if present == len(known):
        return ()
    names = {source.ledger_path(source.listed((path, -1, -1, "")).path) for path in paths}
    return tuple(file for path, file in sorted(known.items()) if path not in names)


def _must_wait(source: FileSource, record: FileRecord) -> bool:
    """Returns whether a file is not due: its next try comes later, or no dataset exists that could record it."""
    return record.next_try_ns > time.time_ns() or (record.whole and not Dataset.exists(source.into))


def _known_files(source: FileSource, pointer: str | None) -> Mapping[str, ListedFile]:
    """Returns the files of the ledger by the paths that it would record today."""
    known = ledger.read_ledger(pointer)
    if type(source).ledger_path is FileSource.ledger_path:
        return known
    return {source.ledger_path(path): file._replace(path=source.ledger_path(path)) for path, file in known.items()}


def _look_again(source: FileSource, files: Sequence[ListedFile], seen_at: float) -> list[ListedFile]:
    """Returns the files that a second look shows unchanged."""
    if source.settle <= 0 or source.appears_whole:
        return list(files)
    time.sleep(max(0.0, min(source.settle, SECOND_LOOK_SECONDS) - (time.monotonic() - seen_at)))
    return [file for file in files if _is_unchanged(source, file)]


def _is_unchanged(source: FileSource, file: ListedFile) -> bool:
    try:
        return not file_differs(source.current(file), file)
    except MissingFileError:
        return False
    except FileError:
        return True  # reading it says more


def _is_done(source: FileSource, file: ListedFile, known: Mapping[str, ListedFile], setbacks: Setbacks) -> bool:
    earlier = known.get(source.ledger_path(file.path))
    is_known = earlier is not None and not file_differs(file, earlier)
    return is_known or file in setbacks.failed or file in setbacks.changing


def _may_be_open(file: ListedFile, settle: float) -> bool:
    # abs(): the clock of the machine that writes may be ahead of ours.
    return file.modified_ns >= 0 and abs(time.time() - file.modified_ns / 1e9) < settle


def _message(source: FileSource, files: Sequence[ListedFile]) -> str:
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"ingest {source.name}: {shown_path(files[0].path)}{more}"
