"""The index over the facts of a lake: what each version and file was made of, and what was made of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from lakefeed.catalog.current_run import ReadKey, VersionRead
from lakefeed.provenance.registry_facts import FileFact, RegistryFacts
from lakefeed.records.origin_facts import SourceSpan, TableFact, VersionFact


class VersionKey(NamedTuple):
    """A version of a dataset."""

    table: str
    number: int


class FileKey(NamedTuple):
    """A file that a run has registered."""

    uid: str


class RunKey(NamedTuple):
    """A run."""

    id: str


DataKey = VersionKey | FileKey


class Origin(NamedTuple):
    """One thing that a version or file was made of.

    ``kind``: "read" by its run, "previous" of the same dataset, or "copy". ``since``: only the changes after that
    version of the source were read.
    """

    source: DataKey
    kind: str
    since: int | None = None


@dataclass(frozen=True)
class OriginIndex:
    """The facts of a lake and its registry, to be walked in both directions."""

    tables: Mapping[str, TableFact]
    registry: RegistryFacts
    names: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for uuid, table in self.tables.items():
            for name in table.names:
                self.names[name].append(uuid)

    def add_names(self, names: Mapping[str, Iterable[str]]) -> None:
        """Adds names that tables had, by the uuids of the tables. Unknown tables are left out."""
        for uuid, former in names.items():
            for name in former if uuid in self.tables else ():
                if uuid not in self.names[name]:
                    self.names[name].append(uuid)

    @cached_property
    def _snapshots(self) -> dict[int, list[VersionKey]]:
        """The versions by snapshot; a copy has the snapshots of its original."""
        index: dict[int, list[VersionKey]] = defaultdict(list)
        for uuid, table in self.tables.items():
            for number, version in table.versions.items():
                index[version.snapshot].append(VersionKey(uuid, number))
        return index

    def version(self, key: VersionKey) -> VersionFact | None:
        """Returns the facts of a version; None if it has expired or was deleted."""
        table = self.tables.get(key.table)
        return None if table is None else table.versions.get(key.number)

    @cached_property
    def reads(self) -> dict[VersionKey, VersionRead]:
        """The reads that commits name, by version. The versions may be gone by now."""
        known: dict[VersionKey, VersionRead] = {}
        for table in self.tables.values():
            for version in table.versions.values():
                for read in version.inputs:
                    known.setdefault(VersionKey(read.table, read.version), read)
        return known

    @cached_property
    def mentioned(self) -> set[VersionKey]:
        """The versions that anything was made of, which may be gone by now."""
        sources = (origin.source for origins in self._origins.values() for origin in origins)
        return {key for key in (*sources, *self.readers) if isinstance(key, VersionKey)}

    def original_of(self, key: VersionKey) -> VersionKey | None:
        """Returns the version that a version of a copied dataset has come from; None if it was written there.

        A copy names the manifests of its original, which are in the folder of the table that wrote them.
        """
        version = self.version(key)
        if version is None or not version.manifests or len(self._snapshots[version.snapshot]) < 2:
            return None
        if version.manifests.startswith(f"{self.tables[key.table].location}/"):
            return None
        for other in self._snapshots[version.snapshot]:
            if other != key and version.manifests.startswith(f"{self.tables[other.table].location}/"):
                return other
        return None

    def run_of(self, key: DataKey) -> str | None:
        """Returns the id of the run that wrote a version or file."""
        if isinstance(key, FileKey):
            file = self.registry.files.get(key.uid)
            return None if file is None else file.run
        version = self.version(key)
        if version is None:
            return None
        if version.run is None and version.routine is not None:
            return f"routine:{version.routine}:{key.table}:{key.number}"  # a routine that ran without an id
        return version.run

    def origins(self, key: DataKey) -> list[Origin]:
        """Returns what a version or file was made of."""
        return self._origins.get(key, [])

    @cached_property
    def _origins(self) -> dict[DataKey, list[Origin]]:
        made: dict[DataKey, list[Origin]] = {}
        for uuid, table in self.tables.items():
            for number, version in table.versions.items():
                key = VersionKey(uuid, number)
                made[key] = list(dict.fromkeys(self._origins_of_version(key, version)))
        for file in self.registry.files.values():
            made[FileKey(file.uid)] = list(dict.fromkeys(self._origins_of_file(file)))
        return made

    def _origins_of_version(self, key: VersionKey, version: VersionFact) -> Iterator[Origin]:
        original = self.original_of(key)
        if original is not None:
            yield Origin(original, "copy")
            return
        located = ((self._source_of(span), span.since) for span in version.spans)
        spans = [Origin(source, "read", since) for source, since in located if source is not None]
        yield from spans
        # What the run has read of the sources for earlier commits is not part of this one.
        tables = {origin.source.table for origin in spans if isinstance(origin.source, VersionKey)}
        for read in version.inputs:
            if read.table not in tables:
                yield Origin(VersionKey(read.table, read.version), "read", read.since)
        yield from self._files_read(version.run, version.at)
        if version.parent is not None:
            yield Origin(VersionKey(key.table, version.parent), "previous")

    def _origins_of_file(self, file: FileFact) -> Iterator[Origin]:
        for read in self.registry.inputs.get(file.run or "", ()):
            if read.at <= file.at:
                yield Origin(VersionKey(read.table, read.version), "read", read.since)
        yield from (each for each in self._files_read(file.run, file.at) if each.source != FileKey(file.uid))

    def _files_read(self, run: str | None, until: int) -> Iterator[Origin]:
        """Yields the files that a run had read at a time."""
        for read in self.registry.file_reads.get(run or "", ()):
            if read.at <= until:
                yield Origin(FileKey(read.uid), "read")

    def _source_of(self, span: SourceSpan) -> VersionKey | None:
        candidates = self._snapshots.get(span.snapshot, []) if span.snapshot is not None else []
        named = self.names.get(span.dataset, [])
        for key in candidates:
            if key.table in named:
                return key
        if candidates:
            return candidates[0]
        holding = [uuid for uuid in named if span.version in self.tables[uuid].versions]
        return next((VersionKey(table, span.version) for table in (*holding, *named)), None)

    @cached_property
    def _uses(self) -> dict[DataKey, list[tuple[DataKey, Origin]]]:
        uses: dict[DataKey, list[tuple[DataKey, Origin]]] = defaultdict(list)
        for key, origins in self._origins.items():
            for origin in origins:
                uses[origin.source].append((key, origin))
        return uses

    def uses(self, key: DataKey) -> list[tuple[DataKey, Origin]]:
        """Returns the versions and files that were made of a version."""
        return self._uses.get(key, [])

    @cached_property
    def outputs(self) -> dict[str, list[DataKey]]:
        """The versions and files that each run has written. Those of copies count for their originals only."""
        written: dict[str, list[DataKey]] = defaultdict(list)
        for key in self._origins:
            run = self.run_of(key)
            if run is not None and not (isinstance(key, VersionKey) and self.original_of(key) is not None):
                written[run].append(key)
        return written

    @cached_property
    def readers(self) -> dict[VersionKey, list[tuple[str, VersionRead]]]:
        """The runs of the registry that have read each version."""
        readers: dict[VersionKey, list[tuple[str, VersionRead]]] = defaultdict(list)
        for run, reads in self.registry.inputs.items():
            for read in reads:
                readers[VersionKey(read.table, read.version)].append((run, read))
        return readers

    @cached_property
    def file_readers(self) -> dict[str, list[str]]:
        """The runs that have read each file, by its uid."""
        readers: dict[str, list[str]] = defaultdict(list)
        for run, reads in self.registry.file_reads.items():
            for read in reads:
                readers[read.uid].append(run)
        return readers

    @cached_property
    def _reads_of_runs(self) -> dict[str, dict[ReadKey, VersionRead]]:
        index: dict[str, dict[ReadKey, VersionRead]] = defaultdict(dict)
        for table in self.tables.values():
            for version in table.versions.values():
                for read in version.inputs if version.run is not None else ():
                    index[version.run or ""][read.key] = read
        for run, reads in self.registry.inputs.items():
            index[run].update((read.key, read) for read in reads)
        return index

    def reads_of_run(self, run: str) -> Mapping[ReadKey, VersionRead]:
        """Returns the plans, seeds and epochs with which a run has read versions."""
        return self._reads_of_runs.get(run, {})

    def inputs_of_run(self, run: str) -> list[Origin]:
        """Returns everything that a run has read."""
        reads = (
            Origin(VersionKey(read.table, read.version), "read", read.since)
            for read in self.registry.inputs.get(run, ())
        )
        files = (Origin(FileKey(read.uid), "read") for read in self.registry.file_reads.get(run, ()))
        written = (each for key in self.outputs.get(run, ()) for each in self.origins(key) if each.kind == "read")
        return list(dict.fromkeys((*reads, *files, *written)))

    def runs(self) -> Iterable[str]:
        """Returns the ids of all runs."""
        return dict.fromkeys((*self.registry.runs, *self.outputs))
