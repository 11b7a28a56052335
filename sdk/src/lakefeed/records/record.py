"""The rows of the registry as values."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lakefeed.records.version_rows import json_object
from lakefeed.records.visible_rows import Visibility


def as_time(milliseconds: int | None) -> dt.datetime | None:
    """Returns a time of the registry in UTC."""
    return None if milliseconds is None else dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC)


@dataclass(frozen=True)
class Record:
    """A version of a dataset or of a file tree, or a file.

    Attributes:
        id: a number within this database.
        uid: the global id: 16 characters for the chain of versions, 4 for the version.
        stem: the first 16 characters.
        revision: the number of the version.
        kind: "dataset", "tree" or "file".
        name: the name of the record; of versions that were saved without one, that of the dataset.
        description: a description.
        version: the label of the version, unique in its chain.
        hash: the hash of the full content; None if it was not computed.
        size: bytes.
        rows: the number of rows.
        dataset: the name of the dataset with its namespace; None for a file.
        table_uuid: the uuid of its table.
        snapshot: the id of the snapshot.
        tree_id: the key of the id of a file tree.
        sha256: the content of a file.
        suffix: the suffix of a file.
        key: the key of a file.
        url: the location of a file that is not stored here.
        reference: an external id or URL.
        reference_type: the type of the reference.
        run: the uid of the run that wrote it.
        created_by: who wrote it.
        visibility: the visibility.
        is_latest: it is the newest version of its chain that is not in the trash.
        facts: what the commit tells of the record.
        created: milliseconds since 1970 (UTC).
        updated: milliseconds since 1970 (UTC).
    """

    id: int
    uid: str
    stem: str
    revision: int
    kind: str
    name: str | None
    description: str | None
    version: str | None
    hash: str | None
    size: int | None
    rows: int | None
    dataset: str | None
    table_uuid: str | None
    snapshot: int | None
    tree_id: str | None
    sha256: str | None
    suffix: str | None
    key: str | None
    url: str | None
    reference: str | None
    reference_type: str | None
    run: str | None
    created_by: str | None
    visibility: Visibility
    is_latest: bool
    facts: Mapping[str, Any] = field(repr=False, compare=False)
    created: int = 0
    updated: int = 0

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Record:
        """Returns the record of a row."""
        same = {name: row[name] for name in _SAME}
        return cls(
            **same,
            version=row["label"],
            rows=row["n"],
            dataset=None if row["table"] is None else f"{row['namespace']}.{row['table']}",
            created_by=row["user"],
            visibility=Visibility.of(row["visibility"], row["presence"]),
            is_latest=bool(row["latest"]),
            facts=json_object(row["facts_json"]),
        )

    @property
    def created_at(self) -> dt.datetime:
        """The time of the commit."""
        return dt.datetime.fromtimestamp(self.created / 1000, dt.UTC)

    @property
    def updated_at(self) -> dt.datetime:
        """The time of the last change."""
        return dt.datetime.fromtimestamp(self.updated / 1000, dt.UTC)


_SAME = (
    "id", "uid", "stem", "revision", "kind", "name", "description", "hash", "size", "table_uuid", "snapshot", "tree_id",
    "sha256", "suffix", "key", "url", "reference", "reference_type", "run", "created", "updated",
)  # fmt: skip


@dataclass(frozen=True)
class RunRow:
    """A run, as the registry has it. Times are milliseconds since 1970 (UTC)."""

    uid: str
    external: str | None
    name: str | None
    transform: str | None
    status: str
    params: Any
    facts: Mapping[str, Any]
    user: str | None
    parent: str | None
    started: int | None
    finished: int | None
    created: int

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> RunRow:
        """Returns the run of a row."""
        values = {name: value for name, value in row.items() if name in cls.__dataclass_fields__}
        params = None if row["params_json"] is None else json.loads(row["params_json"])
        return cls(**values, params=params, facts=json_object(row["facts_json"]))


@dataclass(frozen=True)
class TransformRow:
    """A version of code, as the registry has it. Times are milliseconds since 1970 (UTC)."""

    uid: str
    key: str
    version: str
    kind: str
    name: str | None
    description: str | None
    code_sha256: str | None
    code: Mapping[str, Any]
    user: str | None
    created: int
    updated: int

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> TransformRow:
        """Returns the transform of a row."""
        values = {name: value for name, value in row.items() if name in cls.__dataclass_fields__}
        return cls(**values, code=json_object(row["code_json"]))


@dataclass(frozen=True)
class LabelRow:
    """A label, and its type ("" for none)."""

    uid: str
    kind: str
    name: str
    description: str | None
    parent: str | None
    user: str | None
    created: int


@dataclass(frozen=True)
class FeatureRow:
    """A feature: a measured column. ``label_type`` is the type of the labels that its values are."""

    uid: str
    name: str
    dtype: str | None
    unit: str | None
    label_type: str | None
    description: str | None
    user: str | None
    created: int


@dataclass(frozen=True)
class FeatureSetRow:
    """A set of ``n`` features."""

    uid: str
    hash: str
    name: str | None
    n: int
    created: int


@dataclass(frozen=True)
class UserRow:
    """A user who wrote versions or runs."""

    name: str
    created: int

    @property
    def uid(self) -> str:
        """The name, which identifies a user."""
        return self.name
