"""The runs, their inputs and the files of runs, as the registry has them: read for one lineage."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from sqlalchemy import BindParameter, ColumnElement, Connection, Select, and_, bindparam, case, or_, select

from lakefeed.catalog.current_run import VersionRead
from lakefeed.catalog.version_uids import STEM_CHARACTERS, revision_of, table_stem
from lakefeed.provenance.run_record import RunStatus
from lakefeed.records.inserts import KEYS_PER_QUERY, chunks
from lakefeed.records.origin_facts import DAGSTER_PREFIX, TableFact, canonical_run
from lakefeed.records.record_tables import INPUT, ORIGIN, RECORD, RUN, TRANSFORM
from lakefeed.records.text_search import starts_with
from lakefeed.records.version_rows import FILE_KIND
from lakefeed.records.visible_rows import Visibility

_KEYS: Final[BindParameter[Any]] = bindparam("keys", expanding=True)
_WITH_FACTS: Final = (RunStatus.FAILED, RunStatus.ABORTED)
_RUN_COLUMNS: Final = (
    *(RUN.c.uid, RUN.c.external, RUN.c.name, RUN.c.status, RUN.c.params_json, RUN.c.user, RUN.c.parent),
    *(RUN.c.started, RUN.c.finished, TRANSFORM.c.key, TRANSFORM.c.version, TRANSFORM.c.name.label("code")),
    # These have the versions of all packages, which take long to parse.
    case((RUN.c.status.in_(_WITH_FACTS), RUN.c.facts_json)).label("facts_json"),
)
_RUNS: Final = select(*_RUN_COLUMNS).select_from(RUN.outerjoin(TRANSFORM, TRANSFORM.c.uid == RUN.c.transform))
_UIDS: Final = select(RECORD.c.uid).where(RECORD.c.table_uuid.in_(_KEYS))
_READERS: Final = select(INPUT.c.run).where(INPUT.c.record.in_(_UIDS)).distinct()
_WRITERS: Final = select(ORIGIN.c.run).where(ORIGIN.c.table_uuid.in_(_KEYS))
_FILE_COLUMNS: Final = (
    *(RECORD.c.uid, RECORD.c.name, RECORD.c.key, RECORD.c.sha256, RECORD.c.size, RECORD.c.run, RECORD.c.created),
    *(RECORD.c.visibility, RECORD.c.presence),
)
_FILES: Final = select(*_FILE_COLUMNS)
_INPUTS: Final = (
    select(*(INPUT.c[name] for name in ("run", "record", "from_revision", "plan", "seed", "epoch", "at")))
    .where(INPUT.c.run.in_(_KEYS))
    .order_by(INPUT.c.at)
)
_IS_FILE: Final = and_(RECORD.c.kind == FILE_KIND, RECORD.c.sha256.is_not(None))
_FILES_READ: Final = (
    select(INPUT.c.run.label("reader"), INPUT.c.at, *_FILE_COLUMNS)
    .select_from(INPUT.join(RECORD, RECORD.c.uid == INPUT.c.record))
    .where(INPUT.c.run.in_(_KEYS), _IS_FILE)
    .order_by(INPUT.c.at)
)
_FILE_READERS: Final = select(INPUT.c.run).where(INPUT.c.record.in_(_KEYS)).distinct()
_FILE_STATES: Final[Mapping[Visibility, str]] = {
    Visibility.DEFAULT: "present",
    Visibility.HIDDEN: "present",
    Visibility.TRASH: "trash",
    Visibility.GONE: "deleted",
}


@dataclass(frozen=True, slots=True)
class RunFact:
    """A run, as the registry has it. ``external``: the id as its commits name it."""

    id: str
    name: str
    status: str
    code: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    user: str | None = None
    parent: str | None = None
    error: str | None = None
    started: int | None = None
    finished: int | None = None
    external: str | None = None


@dataclass(frozen=True, slots=True)
class FileFact:
    """A file that a run has registered."""

    uid: str
    name: str
    sha256: str
    size: int
    run: str | None
    at: int
    state: str = "present"


class FileRead(NamedTuple):
    """A file that a run has read: its uid, and the time in milliseconds since 1970 (UTC)."""

    uid: str
    at: int


@dataclass(frozen=True)
class RegistryFacts:
    """The runs by id, their inputs and the files that they have read by the id of the run, and files by uid."""

    runs: Mapping[str, RunFact] = field(default_factory=dict)
    inputs: Mapping[str, tuple[VersionRead, ...]] = field(default_factory=dict)
    files: Mapping[str, FileFact] = field(default_factory=dict)
    file_reads: Mapping[str, Sequence[FileRead]] = field(default_factory=dict)


def forms_of_run(run: str) -> tuple[str, str]:
    """Returns the texts by which commits may name a run."""
    return run, f"{DAGSTER_PREFIX}{run}"


class RunReader:
    """Reads runs, their inputs and files on one connection, and keeps them.

    Attributes:
        runs: the runs by id.
        inputs: the inputs of these runs by the id of the run: the stem of the table, and the row.
        files: the files by uid.
        file_reads: the files that these runs have read, by the id of the run.
    """

    def __init__(self) -> None:
        self.runs: dict[str, RunFact] = {}
        self.inputs: dict[str, list[tuple[str, Sequence[Any]]]] = {}
        self.files: dict[str, FileFact] = {}
        self.file_reads: dict[str, list[FileRead]] = {}
        self._ids: dict[str, str] = {}
        self._unread: set[str] = set()
        self._asked: set[str] = set()

    def facts(self, tables: Mapping[str, str]) -> RegistryFacts:
        """Returns what was read. ``tables``: the uuids of tables by the first parts of the uids of their versions."""
        inputs = {
            run: tuple(_read(tables[stem], row) for stem, row in reads if stem in tables)
            for run, reads in self.inputs.items()
        }
        files = {uid: replace(each, run=self._ids.get(each.run or "", each.run)) for uid, each in self.files.items()}
        return RegistryFacts(self.runs, inputs, files, self.file_reads)

    def read_runs(self, connection: Connection, ids: Iterable[str]) -> None:
        """Reads runs by their ids, or uids."""
        unknown = [each for each in dict.fromkeys(ids) if each not in self.runs]
        for chunk in chunks(unknown):
            external = [form for each in chunk for form in forms_of_run(each)]
            self._add_runs(connection, or_(RUN.c.external.in_(external), RUN.c.uid.in_(chunk)))

    def read_writers(self, connection: Connection, tables: Iterable[TableFact]) -> None:
        """Reads the runs that have written versions of tables."""
        known = list(tables)
        runs = {version.run for table in known for version in table.versions.values()} - {None, *self.runs}
        if len(runs) > KEYS_PER_QUERY:
            for chunk in chunks(each.uuid for each in known):
                self._add_runs(connection, RUN.c.external.in_(_WRITERS), {"keys": chunk})
        self.read_runs(connection, (each for each in runs if each is not None))  # also under other forms of the id

    def read_readers(self, connection: Connection, tables: Iterable[TableFact]) -> None:
        """Reads the runs that have read versions of tables."""
        known = list(tables)
        readers = {row.run for row in _rows(connection, _READERS, [each.uuid for each in known])}
        for stem in (table_stem(each.uuid) for each in known if not each.versions):  # the lake has forgotten them
            readers |= set(connection.scalars(select(INPUT.c.run).where(starts_with(INPUT.c.record, stem)).distinct()))
        self._read_uids(connection, readers)

    def read_files(
        self, connection: Connection, uids: Iterable[str] = (), names: Iterable[str] = (), digests: Iterable[str] = ()
    ) -> list[FileFact]:
        """Returns registered files by uid, name, or the SHA-256 of the content, and reads their runs."""
        conditions = [
            column.in_(list(keys))
            for column, keys in ((RECORD.c.uid, uids), (RECORD.c.name, names), (RECORD.c.sha256, digests))
        ]
        rows = connection.execute(_FILES.where(_IS_FILE, or_(*conditions)).order_by(RECORD.c.id)).all()
        self._read_uids(connection, {row.run for row in rows if row.run is not None})
        self._add_files(rows)
        return [self.files[row.uid] for row in rows]

    def ids_of(self, runs: Iterable[str | None]) -> set[str]:
        """Returns the ids of known runs that are given by their ids or uids."""
        known = (each if each in self.runs else self._ids.get(each or "") for each in runs)
        return {each for each in known if each is not None}

    def read_writers_of_files(self, connection: Connection) -> set[str]:
        """Reads the runs that have written files that known runs have read, and so on. Returns their ids."""
        writers: set[str] = set()
        while self._unread:
            uids, self._unread = self._unread, set()
            self._read_uids(connection, uids)
            writers |= {self._ids[uid] for uid in uids if uid in self._ids}
        return writers

    def read_readers_of_files(self, connection: Connection) -> set[str]:
        """Reads the runs that have read known files. Returns their ids."""
        readers: set[str] = set()
        files = self.files.keys() - self._asked
        while files:
            uids = {row.run for row in _rows(connection, _FILE_READERS, files)}
            self._asked |= files
            self._read_uids(connection, uids)
            readers |= {self._ids[uid] for uid in uids if uid in self._ids}
            files = self.files.keys() - self._asked
        return readers

    def _read_uids(self, connection: Connection, uids: Iterable[str]) -> None:
        for chunk in chunks(each for each in uids if each not in self._ids):
            self._add_runs(connection, RUN.c.uid.in_(chunk))

    def _add_runs(
        self, connection: Connection, condition: ColumnElement[bool], parameters: Mapping[str, Any] | None = None
    ) -> None:
        """Adds runs with their inputs and files."""
        rows = connection.execute(_RUNS.where(condition), parameters).all()
        new = [str(row.uid) for row in rows if row.uid not in self._ids]
        self._ids |= {str(row.uid): canonical_run(row.external) or str(row.uid) for row in rows}
        outer = {row.parent for row in rows if row.parent is not None and row.parent not in self._ids}
        parents: dict[str, str] = {}
        for uid, external in _rows(connection, select(RUN.c.uid, RUN.c.external).where(RUN.c.uid.in_(_KEYS)), outer):
            parents[uid] = canonical_run(external) or str(uid)
        parents = {**parents, **self._ids}
        for row in sorted(rows, key=lambda each: each.name is not None):
            # A run of Dagster may have a row for each form of its id. The one with a name tells more.
            self.runs[self._ids[row.uid]] = _run_fact(row, self._ids[row.uid], parents.get(row.parent))
        for row in _rows(connection, _INPUTS, new):
            self.inputs.setdefault(self._ids[row[0]], []).append((row[1][:STEM_CHARACTERS], row))
        self._add_files(_rows(connection, _FILES.where(_IS_FILE, RECORD.c.run.in_(_KEYS)).order_by(RECORD.c.id), new))
        reads = list(_rows(connection, _FILES_READ, new))
        self._unread |= {row.run for row in reads if row.run is not None}
        self._add_files(reads)
        for row in reads:
            self.file_reads.setdefault(self._ids[row.reader], []).append(FileRead(row.uid, row.at or 0))

    def _add_files(self, rows: Iterable[Any]) -> None:
        for row in rows:
            self.files[row.uid] = FileFact(
                str(row.uid),
                str(row.name or row.key or ""),
                str(row.sha256),
                int(row.size or 0),
                None if row.run is None else str(row.run),
                int(row.created),
                _FILE_STATES[Visibility.of(row.visibility, row.presence)],
            )


def _rows(connection: Connection, query: Select[Any], keys: Iterable[str]) -> Iterator[Any]:
    for chunk in chunks(keys):
        yield from connection.execute(query, {"keys": chunk})


def _run_fact(row: Any, run: str, parent: str | None) -> RunFact:
    code = None if row.key is None else f"{row.code or row.key} {row.version}".strip()
    return RunFact(
        run,
        str(row.name or ""),
        str(row.status),
        code,
        _json(row.params_json),
        row.user,
        parent,
        _json(row.facts_json).get("error"),
        row.started,
        row.finished if row.status != RunStatus.RUNNING else None,
        row.external,
    )


def _read(table: str, row: Sequence[Any]) -> VersionRead:
    """Returns the read of a row of inputs."""
    _, record, since, plan, seed, epoch, at = row
    return VersionRead("", table, revision_of(record), 0, since, plan, seed, epoch, at or 0)


def _json(text: str | None) -> dict[str, Any]:
    value = json.loads(text) if text else {}
    return value if isinstance(value, dict) else {}
