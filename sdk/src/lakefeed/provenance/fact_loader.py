"""Loads the facts of one lineage: of the tables, runs and files that are connected with what was asked for.

The registry tells which those are, so the work depends on them, and not on the number of tables in the lake. Without
its database the commits of all tables are read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import Connection

from lakefeed.catalog.lake import Lake
from lakefeed.catalog.version_uids import table_stem
from lakefeed.errors import CatalogUnavailableError, FileError
from lakefeed.provenance import lake_facts
from lakefeed.provenance.origin_index import OriginIndex
from lakefeed.provenance.registry_facts import RegistryFacts, RunReader, forms_of_run
from lakefeed.records.origin_facts import TableFact, canonical_run
from lakefeed.records.origin_rows import OriginReader
from lakefeed.records.record_registry import Registry

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Roots:
    """The things that a lineage begins with. A text may be a name of several kinds of them.

    Attributes:
        tables: the uuids of tables.
        names: names of datasets.
        runs: ids of runs.
        files: uids or names of registered files.
        digests: SHA-256 digests of registered files.
    """

    tables: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    runs: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    digests: frozenset[str] = frozenset()


@dataclass
class FactLoader:
    """The facts of a lake that have been loaded so far."""

    lake: Lake
    tables: dict[str, TableFact] = field(default_factory=dict)
    _runs: RunReader = field(default_factory=RunReader)
    _new: list[str] = field(default_factory=list)
    _ended: list[TableFact] | None = None
    _has_all: bool = False
    _index: OriginIndex | None = None

    def index(self, roots: Roots, up: int | None, down: int | None) -> OriginIndex:
        """Returns an index with everything that is connected with some roots.

        Args:
            roots: the roots.
            up: the most steps towards what they were made of; None for all.
            down: the most steps towards what was made of them; None for all.
        """
        if not self._has_all:
            before = len(self.tables), len(self._runs.runs), len(self._runs.files)
            try:
                self.lake.catalog  # noqa: B018 - of a lake that was moved it writes, and would wait for this transaction
                Registry.open(self.lake).read_current(lambda connection: self._load(connection, roots, up, down))
            except (CatalogUnavailableError, FileError) as error:
                self._load_commits(error)
            if before != (len(self.tables), len(self._runs.runs), len(self._runs.files)):
                self._index = None
        if self._index is None:
            stems = {table_stem(each): each for each in self.tables}
            registry = RegistryFacts() if self._has_all else self._runs.facts(stems)
            self._index = OriginIndex(self.tables, registry)
            self._index.add_names({each.uuid: each.names for each in self._ended or ()})
        return self._index

    def _load_commits(self, error: Exception) -> None:
        logger.warning("%s; the lineage has what the commits say", error)
        self.tables, self._has_all, self._index = lake_facts.read_tables(self.lake), True, None
        self._ended = lake_facts.ended_tables(self.lake)

    def _load(self, connection: Connection, roots: Roots, up: int | None, down: int | None) -> None:
        reader = OriginReader(connection, self.lake.settings.catalog.namespace)
        self._add_ended(reader)
        self._runs.read_runs(connection, roots.runs)
        files = self._runs.read_files(connection, roots.files, roots.files, roots.digests)
        written = reader.written_by(form for each in roots.runs for form in forms_of_run(canonical_run(each) or each))
        ended = {each.uuid for each in self._ended or () if each.names & roots.names}
        begin = {*roots.tables, *reader.named(roots.names), *ended, *written}
        self._add(reader, begin)
        runs = {canonical_run(each) or each for each in roots.runs} | {each.run for each in files}
        known = self._runs.ids_of(runs)
        self._load_above(reader, connection, begin, known, up)
        self._load_below(reader, connection, begin, down)
        self._read_writers(connection)

    def _load_above(
        self, reader: OriginReader, connection: Connection, begin: Iterable[str], runs: set[str], most: int | None
    ) -> None:
        seen, frontier, steps = set(begin), set(begin), 0
        while (frontier or runs) and (most is None or steps < most):
            self._read_writers(connection)
            runs |= self._runs.read_writers_of_files(connection)
            read = {stem for run in runs for stem, _ in self._runs.inputs.get(run, ())}
            frontier = (reader.above(frontier) | reader.of_stems(read)) - seen
            self._add(reader, frontier)
            seen |= frontier
            runs = set()
            steps += 1

    def _load_below(self, reader: OriginReader, connection: Connection, begin: Iterable[str], most: int | None) -> None:
        seen, frontier, steps = set(begin), set(begin), 0
        while most is None or steps < most:
            tables = [self.tables[each] for each in frontier if each in self.tables]
            self._runs.read_readers(connection, tables)
            readers = self._runs.read_readers_of_files(connection)
            written = reader.written_by(form for each in readers for form in forms_of_run(each))
            frontier = (reader.below(tables) | written) - seen
            if not frontier:
                break
            self._add(reader, frontier)
            seen |= frontier
            steps += 1

    def _read_writers(self, connection: Connection) -> None:
        """Reads the runs that have written versions of tables that are new here."""
        self._runs.read_writers(connection, [self.tables[each] for each in self._new])
        self._new.clear()

    def _add(self, reader: OriginReader, uuids: Iterable[str]) -> None:
        for table in reader.tables(each for each in uuids if each not in self.tables):
            self.tables[table.uuid] = table
            self._new.append(table.uuid)

    def _add_ended(self, reader: OriginReader) -> None:
        """Adds the deleted datasets that the registry does not know."""
        if self._ended is None:
            self._ended = lake_facts.ended_tables(self.lake)
            known = reader.known(each.uuid for each in self._ended)
            self.tables |= {each.uuid: each for each in self._ended if each.uuid not in known}
