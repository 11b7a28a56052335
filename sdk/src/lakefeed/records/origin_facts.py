"""The facts about the origin of versions that their commits have: who wrote them, with which code, made of what.

They are in the summaries of the snapshots, whoever wrote those. The registry has a copy of them (`origin_rows`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lakefeed.catalog.current_run import VersionRead, parse_inputs
from lakefeed.catalog.properties import CODE, FIRST_NAME, INPUTS, LABEL, MESSAGE, ROWS_ADDED, RUN, USER
from lakefeed.catalog.snapshot_facts import Columns, SnapshotFacts
from lakefeed.records.version_rows import SyncedTable, work_of

DAGSTER_PREFIX: Final = "dagster:"


@dataclass(frozen=True, slots=True)
class SourceSpan:
    """The versions of a source that a routine has read: those after ``since`` up to ``version``."""

    dataset: str
    version: int
    since: int | None = None
    snapshot: int | None = None


@dataclass(frozen=True, slots=True)
class VersionFact:
    """A version, and what its commit says about its origin.

    Attributes:
        number: the number of the version.
        snapshot: the id of the snapshot.
        parent: the number of the version before it; None for the first, and where all rows were replaced.
        at: the time of the commit, in milliseconds since 1970 (UTC).
        rows: the number of rows.
        run: the id of the run.
        code: the code, as text.
        inputs: the versions that the run had read before the commit.
        more_inputs: the number of further inputs.
        routine: the name of the routine.
        spans: the versions that the routine has read.
        columns: for each column, the columns of datasets that it is made of, if the commit says so.
        user: who wrote it.
        label: the label of a file tree.
        message: the message.
        schema: the names and types of the columns.
        manifests: the location of the manifest list, which is in the folder of the table that wrote it first.
        is_gone: True if it has expired. Only the registry knows such a version.
    """

    number: int
    snapshot: int
    parent: int | None
    at: int
    rows: int
    run: str | None = None
    code: str | None = None
    inputs: tuple[VersionRead, ...] = ()
    more_inputs: int = 0
    routine: str | None = None
    spans: tuple[SourceSpan, ...] = ()
    columns: Mapping[str, tuple[tuple[str, str], ...]] | None = field(default=None, compare=False)
    user: str | None = None
    label: str | None = None
    message: str | None = None
    manifests: str = field(default="", repr=False)
    schema: Columns = field(default=(), repr=False, compare=False)
    is_gone: bool = False


@dataclass(frozen=True)
class TableFact:
    """A dataset and its versions.

    Attributes:
        uuid: the uuid of the table.
        name: the name of the dataset; of a deleted one the last.
        state: "present", "trash" or "deleted".
        first_name: the first name of a dataset that was renamed.
        location: the folder of the table.
        versions: the versions by number.
        former_names: further names that it had.
    """

    uuid: str
    name: str
    state: str = "present"
    first_name: str | None = None
    location: str = ""
    versions: Mapping[int, VersionFact] = field(default_factory=dict)
    former_names: tuple[str, ...] = ()

    @property
    def names(self) -> set[str]:
        """The names by which other commits may know it."""
        return {self.name, self.first_name or self.name, *self.former_names}


def canonical_run(run: str | None) -> str | None:
    """Returns the id of a run. A run of Dagster has its id there, with or without a prefix."""
    return None if run is None else run.removeprefix(DAGSTER_PREFIX) or run


def table_fact(table: SyncedTable) -> TableFact:
    """Returns the facts of a table as its metadata file has them."""
    columns = table.facts.columns
    values = (version_values(table, each) for each in table.facts.versions)
    versions = (version_of_values(each, columns) for each in values)
    return TableFact(
        table.facts.table_uuid,
        table.dataset,
        "trash" if table.source.in_trash else "present",
        table.facts.properties.get(FIRST_NAME),
        table.facts.location,
        {each.number: each for each in sorted(versions, key=lambda fact: fact.number)},
    )


def version_values(table: SyncedTable, version: SnapshotFacts) -> dict[str, Any]:
    """Returns the facts of a version as values of JSON, without those that are not known."""
    summary, work = version.summary, work_of(version)
    inputs, more = parse_inputs(summary.get(INPUTS), version.timestamp_ms)
    routine = work.get("routine")
    values = {
        "number": version.version,
        "snapshot": version.snapshot_id,
        "parent": _parent(table, version),
        "at": version.timestamp_ms,
        "rows": version.rows,
        "run": summary.get(RUN),
        "code": summary.get(CODE),
        "inputs": [each.to_json() for each in inputs],
        "more_inputs": more,
        "routine": routine if isinstance(routine, str) else None,
        "spans": [list(each) for each in _spans(work)],
        "columns": _columns(work.get("columns")),
        "user": summary.get(USER),
        "label": summary.get(LABEL),
        "message": summary.get(MESSAGE),
        "manifests": version.manifests,
        "schema": version.schema_id or 0,
    }
    return {name: value for name, value in values.items() if value not in (None, [], 0, "") or name == "rows"}


def version_of_values(values: Mapping[str, Any], schemas: Mapping[int, Columns], is_gone: bool = False) -> VersionFact:
    """Returns the facts of a version that `version_values` returned."""
    columns, at = values.get("columns"), values["at"]
    return VersionFact(
        values["number"],
        values["snapshot"],
        values.get("parent"),
        at,
        values["rows"],
        canonical_run(values.get("run")),
        values.get("code"),
        tuple(VersionRead(**each, at=at) for each in values.get("inputs", ())),
        values.get("more_inputs", 0),
        values.get("routine"),
        tuple(SourceSpan(*each) for each in values.get("spans", ())),
        None if columns is None else {name: tuple(map(tuple, of)) for name, of in columns.items()},
        values.get("user"),
        values.get("label"),
        values.get("message"),
        values.get("manifests", ""),
        schemas.get(values.get("schema", 0), ()),
        is_gone,
    )


def upstream_sources(table: SyncedTable, values: Mapping[str, Any]) -> Iterator[str]:
    """Yields the sources of a version: uuids of tables, names of datasets, and ids of snapshots."""
    yield from (each["table"] for each in values.get("inputs", ()))
    for dataset, _, _, snapshot in values.get("spans", ()):
        yield name_source(dataset)
        if snapshot is not None:
            yield snapshot_source(snapshot)
    for origins in (values.get("columns") or {}).values():
        yield from (name_source(dataset) for dataset, _ in origins)
    manifests, folder = values.get("manifests", ""), f"{table.facts.location}/"
    if manifests and not manifests.startswith(folder):  # of the table that it was copied from
        yield snapshot_source(values["snapshot"])


def name_source(dataset: str) -> str:
    """Returns the source that is a dataset of this name."""
    return f"name:{dataset}"


def snapshot_source(snapshot: int | str) -> str:
    """Returns the source that is a version with this snapshot."""
    return f"snapshot:{snapshot}"


def _parent(table: SyncedTable, version: SnapshotFacts) -> int | None:
    """Returns the number of the version before, unless all of its rows were replaced."""
    parent = table.by_snapshot.get(version.parent_id or 0)
    if parent is None:
        return None
    deleted = version.summary.get("deleted-records", "0")
    replaces = parent.rows > 0 and deleted.isdecimal() and int(deleted) >= parent.rows
    return None if replaces and ROWS_ADDED not in version.summary else parent.version


def _spans(work: Mapping[str, Any]) -> Iterator[tuple[str, int, int | None, int | None]]:
    read = work.get("read")
    for each in read if isinstance(read, list) else ():
        if isinstance(each, dict) and isinstance(each.get("source"), str) and type(each.get("to_version")) is int:
            yield each["source"], each["to_version"], _whole(each.get("from_version")), _whole(each.get("to_snapshot"))


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _columns(value: object) -> dict[str, list[list[str]]] | None:
    if not isinstance(value, dict):
        return None
    try:
        return {name: [[str(dataset), str(column)] for dataset, column in of] for name, of in value.items()}
    except (TypeError, ValueError):
        return None


def parse_columns(text: str | None) -> dict[int, Columns]:
    """Returns the columns by the id of the schema, of the text that `columns_text` returned."""
    return {int(key): tuple(map(tuple, columns)) for key, columns in json.loads(text or "{}").items()}


def columns_text(columns: Mapping[int, Columns]) -> str:
    """Returns the columns of schemas as JSON."""
    return json.dumps({str(key): value for key, value in columns.items()}, separators=(",", ":"))
