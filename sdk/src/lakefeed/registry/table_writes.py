"""Rows that become the first version of a new dataset or the next version of one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection

from lakefeed.catalog.action import Provenance
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.schema import declared_schema
from lakefeed.catalog.version_uids import version_uid
from lakefeed.catalog.versions import DatasetVersion
from lakefeed.dataset import Dataset as Rows
from lakefeed.dataset.core import plan_of
from lakefeed.errors import CommitConflictError, DatasetExistsError
from lakefeed.registry import record_rows
from lakefeed.registry.record_rows import RecordRow
from lakefeed.registry.version_facts import VersionFacts, candidate_names
from lakefeed.registry.version_labels import choose_label, used_labels
from lakefeed.run import row_edits, save
from lakefeed.run.save import Writing

if TYPE_CHECKING:
    from pyiceberg.table import Table

MAX_ATTEMPTS: Final = 8


@dataclass(frozen=True)
class WrittenVersion:
    """A version that was committed.

    Attributes:
        uid: the uid of its record.
        dataset: the name of the dataset.
        version: the number.
    """

    uid: str
    dataset: str
    version: int

    @classmethod
    def of(cls, dataset: str, version: DatasetVersion) -> WrittenVersion:
        """Returns a version of a dataset."""
        return cls(version_uid(version.table_uuid, version.version), dataset, version.version)

    def row(self, connection: Connection) -> RecordRow:
        """Returns the row of its record.

        Raises:
            RecordNotFoundError: there is none.
        """
        return record_rows.require_row(connection, self.uid)


def write_rows(
    lake: Lake, rows: Rows, facts: VersionFacts, column_types: dict[str, str] | None = None
) -> WrittenVersion:
    """Writes rows as a version. Repeated calls with the same facts make one version.

    Args:
        lake: the lake.
        rows: the rows.
        facts: the facts of the version.
        column_types: the file columns of a new dataset; None inspects a sample.

    Raises:
        SchemaError: the columns do not fit those of the dataset. Nothing is written.
        InvalidArgumentError: the label is taken. Nothing is written.
        CommitConflictError: other writers kept committing first. Nothing is written.
    """
    if facts.dataset is None:
        return _create(lake, rows, facts, column_types)
    return _add(lake, rows, facts, facts.dataset)


def _create(lake: Lake, rows: Rows, facts: VersionFacts, column_types: dict[str, str] | None) -> WrittenVersion:
    writing = Writing(provenance=facts.provenance(choose_label(facts.label, ())), idempotency_key=facts.token)
    for name in candidate_names(lake, facts.name):
        try:
            version = save.save(
                lake, plan_of(rows, "Dataset"), name, facts.description, column_types or "auto", writing
            )
            return WrittenVersion.of(name, version)
        except DatasetExistsError:
            continue  # another process was faster
    raise CommitConflictError(f"other processes kept taking the names of {facts.name!r}; try again")


def _add(lake: Lake, rows: Rows, facts: VersionFacts, name: str) -> WrittenVersion:
    def entries(table: Table) -> dict[str, str]:
        label = choose_label(facts.label, list(dict.fromkeys([*used_labels(table), *facts.used])))
        own = list(dict.fromkeys([*declared_schema(table).names, *rows.schema.names])) == rows.schema.names
        return (facts if own else replace(facts, columns=rows.schema.names)).entries(label)

    choose_label(facts.label, facts.used)  # before rows are written
    writing = Writing(provenance=Provenance(run=facts.run, user=facts.user), idempotency_key=facts.token)
    plan = plan_of(rows, "Dataset")
    return WrittenVersion.of(name, row_edits.overwrite(lake, plan, name, writing, add_columns=True, facts=entries))
