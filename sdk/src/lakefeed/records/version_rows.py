"""The rows of the registry's tables that the commits of a dataset tell."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from lakefeed.catalog.properties import (
    DESCRIPTION,
    HASH,
    INPUTS,
    LABEL,
    RECORD,
    RUN,
    TRASHED,
    TREE,
    TREE_ID,
    TREE_PARENTS,
    USER,
    WORK,
)
from lakefeed.catalog.snapshot_facts import SnapshotFacts, TableFacts
from lakefeed.catalog.version_uids import UID_CHARACTERS, table_stem, text_uid, version_uid
from lakefeed.records.catalog_heads import TableName
from lakefeed.records.record_tables import Presence
from lakefeed.records.text_search import with_search_text

UID: Final = re.compile(rf"[0-9A-Za-z]{{{UID_CHARACTERS}}}")
DATASET_KIND: Final = "dataset"
TREE_KIND: Final = "tree"
FILE_KIND: Final = "file"
KINDS: Final = (DATASET_KIND, TREE_KIND, FILE_KIND)
FILES_FORM: Final = "files"
"""The form of the data of a dataset that is a list of files. Its new files wait for its commit."""

TYPED_LABELS: Final = "typed_labels"
"""The entry of the facts of a record with the names of labels by their types."""

Row = dict[str, Any]


def run_uid(text: str) -> str:
    """Returns the uid of the run that commits name ``text``: the text if it is a uid, else a function of it."""
    return text if UID.fullmatch(text) else text_uid(text)


@dataclass(frozen=True)
class SyncedTable:
    """A dataset as one metadata file has it.

    Attributes:
        source: its name in the catalog.
        location: the metadata file.
        facts: the versions.
        own_namespace: the namespace of names without one.
    """

    source: TableName
    location: str
    facts: TableFacts
    own_namespace: str

    @property
    def stem(self) -> str:
        """The part of the uids that its versions share."""
        return table_stem(self.facts.table_uuid)

    @cached_property
    def by_snapshot(self) -> Mapping[int, SnapshotFacts]:
        """Its versions by the ids of their snapshots."""
        return {each.snapshot_id: each for each in self.facts.versions}

    @property
    def presence(self) -> Presence:
        """The presence of its versions."""
        return Presence.DATASET_IN_TRASH if self.source.in_trash else Presence.PRESENT

    @property
    def name(self) -> TableName:
        """The namespace and the name of the dataset; in the trash, those that it had."""
        trashed = json_object(self.facts.properties.get(TRASHED)).get("name") if self.source.in_trash else None
        if not isinstance(trashed, str):
            return self.source
        namespace, _, name = trashed.rpartition(".")
        return TableName(namespace or self.own_namespace, name)

    @property
    def dataset(self) -> str:
        """The name of the dataset, without the namespace if it is the own one."""
        name = self.name
        return name.name if name.namespace == self.own_namespace else f"{name.namespace}.{name.name}"

    @property
    def kind(self) -> str:
        """The kind of its records."""
        return TREE_KIND if TREE in self.facts.properties else DATASET_KIND


@dataclass
class VersionRows:
    """The rows of new versions, by table."""

    records: list[Row] = field(default_factory=list)
    runs: list[Row] = field(default_factory=list)
    users: list[Row] = field(default_factory=list)
    inputs: list[Row] = field(default_factory=list)
    labels: list[tuple[str, str, str]] = field(default_factory=list)
    feature_sets: list[Row] = field(default_factory=list)
    parents: list[Row] = field(default_factory=list)
    tokens: list[tuple[str, str]] = field(default_factory=list)

    def add(self, table: SyncedTable, version: SnapshotFacts) -> None:
        """Adds the rows of a version."""
        summary, facts = version.summary, json_object(version.summary.get(RECORD))
        uid, at = version_uid(table.facts.table_uuid, version.version), version.timestamp_ms
        run, user = summary.get(RUN), summary.get(USER)
        name = table.name
        self.records.append(
            with_search_text(
                {
                    "uid": uid,
                    "stem": table.stem,
                    "revision": version.version,
                    "kind": table.kind,
                    "name": text(facts, "name") or table.dataset,
                    "description": text(facts, "description") or table.facts.properties.get(DESCRIPTION),
                    "label": summary.get(LABEL) or str(version.version),
                    "hash": summary.get(HASH),
                    "size": version.bytes,
                    "n": version.rows,
                    "namespace": name.namespace,
                    "table": name.name,
                    "table_uuid": table.facts.table_uuid,
                    "snapshot": version.snapshot_id,
                    "tree_id": summary.get(TREE_ID),
                    "reference": text(facts, "reference"),
                    "reference_type": text(facts, "reference_type"),
                    "run": None if run is None else run_uid(run),
                    "user": user,
                    "presence": int(table.presence),
                    "facts_json": summary.get(RECORD),
                    "created": at,
                    "updated": at,
                }
            )
        )
        if user is not None:
            self.users.append({"name": user, "created": at})
        if run is not None:
            self.runs.append({"uid": run_uid(run), "external": run, "user": user, "started": None, "created": at})
            self.inputs += _inputs(run_uid(run), summary.get(INPUTS), at)
        self.labels += [(uid, kind, name) for kind, name in _labels(facts)]
        sets = facts.get("feature_sets")
        self.feature_sets += [
            {"record": uid, "slot": slot, "feature_set": each}
            for slot, each in (sets.items() if isinstance(sets, dict) else ())
            if isinstance(each, str) or (isinstance(each, list) and all(isinstance(name, str) for name in each))
        ]
        parents = _json(summary.get(TREE_PARENTS), list) or ()
        self.parents += [
            {"child": uid, "parent": each, "ordinal": ordinal}
            for ordinal, each in enumerate(parents)
            if isinstance(each, str)
        ]
        token = text(facts, "token")
        if token is not None and facts.get("form") == FILES_FORM:
            self.tokens.append((token, uid))


def _labels(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields the types and names of labels. Those of no type are a list of names; the others are lists by type."""
    yield from (("", name) for name in texts(facts, "labels"))
    given = facts.get(TYPED_LABELS)
    typed: dict[str, Any] = given if isinstance(given, dict) else {}
    for kind in typed:
        yield from ((kind, name) for name in texts(typed, kind))


def _inputs(run: str, entry: str | None, at: int) -> Iterator[Row]:
    """Yields the inputs that a commit names. Entries of other programs that are none are left out."""
    for value in _json(entry, list) or ():
        if not isinstance(value, dict) or not isinstance(value.get("table"), str):
            continue
        version, since = value.get("version"), value.get("since")
        try:
            record = version_uid(value["table"], int(str(version)))
        except ValueError:
            continue
        yield {
            "run": run,
            "record": record,
            "from_revision": since if isinstance(since, int) else None,
            "plan": text(value, "plan"),
            "seed": _number(value, "seed"),
            "epoch": _number(value, "epoch"),
            "at": at,
        }


def work_of(version: SnapshotFacts) -> Mapping[str, Any]:
    """Returns the work of the routine that wrote a version; empty if none did."""
    return json_object(version.summary.get(WORK))


def json_object(value: str | None) -> dict[str, Any]:
    """Returns the JSON object in a text; an empty one if there is none."""
    return _json(value, dict) or {}


def text(facts: Mapping[str, Any], name: str) -> str | None:
    """Returns an entry that is text; None otherwise."""
    value = facts.get(name)
    return value if isinstance(value, str) and value else None


def texts(facts: Mapping[str, Any], name: str) -> list[str]:
    """Returns the texts of an entry that is a list."""
    value = facts.get(name)
    items: Sequence[Any] = value if isinstance(value, list) else ()
    return [each for each in items if isinstance(each, str) and each]


def _number(facts: Mapping[str, Any], name: str) -> int | None:
    value = facts.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63 else None


def _json(value: str | None, kind: type) -> Any:
    """Returns the JSON value in a text if it has this type; else None, because any program may write a summary."""
    try:
        parsed = json.loads(value or "null")
    except ValueError:
        return None
    return parsed if isinstance(parsed, kind) else None


def distinct(rows: Iterable[Row], key: str) -> list[Row]:
    """Returns the first row of each value of a column."""
    first: dict[Any, Row] = {}
    for row in rows:
        first.setdefault(row[key], row)
    return list(first.values())
