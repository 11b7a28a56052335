"""Drafts: trees in progress, each a table in a namespace that no list of datasets shows.

What is uploaded is in the table, so a draft outlives its process, and several processes may upload to it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from lakefeed.catalog.action import Condition, Fence, fence_value
from lakefeed.catalog.commit import append, create
from lakefeed.catalog.hidden_tables import HiddenTables
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.snapshot_builder import BeforeCommit
from lakefeed.catalog.versions import resolve
from lakefeed.errors import DamagedDatasetError, DatasetNotFoundError, FenceError
from lakefeed.ops import Scan
from lakefeed.run.local_runner import LocalRunner
from lakefeed.sources.iceberg_source import IcebergSource
from lakefeed.trees.tree_identity import TreeId
from lakefeed.trees.tree_rows import CHANGE_SCHEMA

if TYPE_CHECKING:
    from pyiceberg.table import Table

NAMESPACE: Final = "_drafts"
SEAL: Final = "seal"
SEALED: Final = "sealed"
DRAFT: Final = "lakefeed.tree.draft"
"""The table property with the facts of a draft, as JSON."""


@dataclass(frozen=True)
class DraftFacts:
    """The facts of a draft, chosen when it is created.

    Attributes:
        dataset: the name of the dataset.
        name: the name of the tree, as given.
        project: the project, as given.
        label: the label; None for one that `finalize` draws.
        parents: the ids of the parents, in order.
        tags: the tags.
        description: the description.
        created_ms: the time of its creation, in milliseconds since 1970 (UTC).
        symlinks: see `lakefeed.trees.folder_scan.Symlinks`.
    """

    dataset: str
    name: str
    project: str
    label: str | None = None
    parents: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    description: str | None = None
    created_ms: int = 0
    symlinks: str = "follow"

    def to_json(self) -> str:
        """Returns the facts as text."""
        return json.dumps(self.__dict__)

    @classmethod
    def from_json(cls, text: str) -> DraftFacts:
        """Returns the facts in a text. Entries that this version does not know are ignored."""
        values = {name: value for name, value in json.loads(text).items() if name in cls.__dataclass_fields__}
        return cls(**{**values, "parents": tuple(values["parents"]), "tags": tuple(values["tags"])})


@dataclass(frozen=True)
class DraftTable:
    """The table of a draft.

    Attributes:
        lake: the lake.
        key: the 12 hex digits of the id.
    """

    lake: Lake
    key: str

    @cached_property
    def tables(self) -> HiddenTables:
        """The tables of all drafts."""
        return HiddenTables(self.lake, NAMESPACE)

    @property
    def name(self) -> str:
        """The name of the table. It is short, because garbage collections know tables by names of this length."""
        return f"t{self.key}"

    def create(self, facts: DraftFacts) -> None:
        """Creates the table."""
        create(self.tables, self.name, CHANGE_SCHEMA, (), properties={DRAFT: facts.to_json()})

    def load(self) -> Table | None:
        """Returns the table; None if the draft does not exist (any more)."""
        try:
            return self.tables.table(self.name)
        except DatasetNotFoundError:
            return None

    def append(self, batches: Iterable[pa.RecordBatch], before_commit: BeforeCommit, seal: str | None) -> None:
        """Appends changes to a draft whose seal has this value.

        Raises:
            DatasetNotFoundError: the draft was finalized or deleted.
            FenceError: its seal has changed.
        """
        unchanged = (Condition(SEAL, seal, None),)
        append(self.tables, self.name, batches, schema=CHANGE_SCHEMA, before_commit=before_commit, conditions=unchanged)

    def seal(self) -> None:
        """Makes uploads to the draft impossible, so that none is lost while it is finalized.

        Raises:
            DatasetNotFoundError: the draft was finalized or deleted.
        """
        self._set_seal(SEALED)

    def open_again(self) -> None:
        """Makes uploads possible again, after the draft could not be finalized."""
        self._set_seal(uuid.uuid4().hex)

    def _set_seal(self, value: str) -> None:
        while True:
            seal = fence_value(self.tables.table(self.name), SEAL)
            if is_sealed(seal) == is_sealed(value):
                return
            try:
                append(self.tables, self.name, (), schema=CHANGE_SCHEMA, fence=Fence(SEAL, seal, value))
            except FenceError:
                continue  # another process was faster
            return

    def changes(self, table: Table) -> pa.Table:
        """Returns the changes that were uploaded, in the order of their commits."""
        source = IcebergSource.of(self.tables, self.name, table, resolve(table))
        return read_rows(self.lake, source, CHANGE_SCHEMA)

    def discard(self) -> None:
        """Removes the table, if it still exists."""
        try:
            self.tables.discard(self.name)
        except DatasetNotFoundError:
            return


def is_sealed(seal: str | None) -> bool:
    """Returns whether a draft with this value of the fence `SEAL` takes no more uploads."""
    return seal == SEALED


def facts_of(table: Table) -> DraftFacts:
    """Returns the facts of a draft."""
    return DraftFacts.from_json(table.properties[DRAFT])


def list_drafts(lake: Lake) -> Iterator[tuple[TreeId, DraftFacts]]:
    """Yields the drafts of a lake with their facts."""
    for name in HiddenTables(lake, NAMESPACE).names():
        draft = DraftTable(lake, name[1:])
        try:
            table = draft.load()
        except DamagedDatasetError:
            continue  # the damage of one draft does not hide the others
        if table is not None and DRAFT in table.properties:
            facts = facts_of(table)
            yield TreeId(facts.dataset, draft.key), facts


def read_rows(lake: Lake, source: IcebergSource, schema: pa.Schema) -> pa.Table:
    """Returns rows of a tree or a draft, with these columns."""
    batches = LocalRunner(lake.settings).batches(Scan(source))
    table = pa.Table.from_batches(list(batches), source.schema)
    columns: list[Any] = [table[field.name].cast(field.type) for field in schema]
    return pa.table(columns, schema=schema).combine_chunks()
