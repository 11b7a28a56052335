"""`ULabel`, and the labels of records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import select

from lakefeed._validate import check_text
from lakefeed.catalog.lake import Lake
from lakefeed.errors import InvalidArgumentError
from lakefeed.records import label_rows, record_changes
from lakefeed.records.entities import LABEL_ENTITY
from lakefeed.records.record_registry import Registry
from lakefeed.records.record_tables import LABEL, RECORD_LABEL
from lakefeed.registry import chain_versions
from lakefeed.registry.record_base import check_optional_text
from lakefeed.registry.record_rows import plain_rows, read_rows
from lakefeed.registry.table_record import TableRecord

if TYPE_CHECKING:
    from lakefeed.registry.record_base import Record


class ULabel(TableRecord):
    """A label of datasets and files.

    Args:
        name: the name.
        type: the type of the label, such as "Species". Names are unique within a type.
        description: a description.

    Raises:
        InvalidArgumentError: an argument is wrong.

    Example:
        >>> ULabel("setosa", type="Species").save()
        >>> [label.name for label in ULabel.filter(type="Species")]
        ['setosa']
    """

    _entity = LABEL_ENTITY
    _columns: ClassVar = {
        "uid": "uid",
        "name": "name",
        "type": "kind",
        "description": "description",
        "created_at": "created",
    }

    def __init__(self, name: str, type: str | None = None, description: str | None = None) -> None:
        if not check_text(name, "name").strip():
            raise InvalidArgumentError("name must not be empty")
        about = check_optional_text(description, "description")
        self._record_lake = Lake.current()
        self._row = {"name": name, "kind": check_optional_text(type, "type") or "", "description": about}

    @property
    def _label_type(self) -> str:
        return str(self._row["kind"])

    @property
    def _label_name(self) -> str:
        return str(self._row["name"])

    def save(self) -> None:
        """Stores the label, or finds the one of this name and type. It may be called again."""
        row = self._row
        with Registry.open(self._record_lake).write() as connection:
            uid = label_rows.ensure_labels(connection, [row["name"]], row["kind"])[row["name"]]
            if row.get("description") is not None:
                connection.execute(LABEL.update().where(LABEL.c.uid == uid).values(description=row["description"]))
            query = select(LABEL).where(LABEL.c.uid == uid)
            (self._row,) = plain_rows(connection.execute(query))

    def delete(self) -> None:
        """Deletes the label, and takes it from all records. Nothing happens if it is not saved."""
        uid = self._row.get("uid")
        with Registry.open(self._record_lake).write() as connection:
            connection.execute(RECORD_LABEL.delete().where(RECORD_LABEL.c.label == uid))
            connection.execute(LABEL.delete().where(LABEL.c.uid == uid))


class RecordLabels:
    """The labels of a record: iterable, and they may change. Those of a new record are stored by its `save`."""

    def __init__(self, record: Record) -> None:
        self._record: Any = record

    def all(self) -> list[ULabel]:
        """Returns the labels, sorted by type and name."""
        record = self._record
        if record._row is None:
            return [ULabel(name, kind or None) for kind, name in record._new_labels]
        query = (
            select(LABEL)
            .join(RECORD_LABEL, RECORD_LABEL.c.label == LABEL.c.uid)
            .where(RECORD_LABEL.c.record == record.uid)
            .order_by(LABEL.c.kind, LABEL.c.name)
            .distinct()
        )
        rows = read_rows(record._record_lake, query)
        return [ULabel._of_row(record._record_lake, row) for row in rows]

    def list(self, field: str = "name") -> list[Any]:
        """Returns a field of each label.

        Args:
            field: the field.
        """
        return [getattr(label, field) for label in self.all()]

    def add(self, *labels: Any) -> None:
        """Adds labels. Those that the record has already change nothing.

        Args:
            labels: `ULabel` objects, or names. Labels that do not exist are made.

        Raises:
            InvalidArgumentError: one is neither.
        """
        record = self._record
        if record._row is None:
            added = chain_versions.typed_labels(list(labels))
            record._new_labels = list(dict.fromkeys([*record._new_labels, *added]))
            return
        for kind, names in _by_type(labels).items():
            record_changes.add_labels(Registry.open(record._record_lake), record.uid, names, kind=kind)

    def remove(self, *labels: Any) -> None:
        """Removes labels. Those that the record lacks change nothing.

        Args:
            labels: `ULabel` objects, or names.
        """
        record = self._record
        if record._row is None:
            gone = chain_versions.typed_labels(list(labels))
            record._new_labels = [label for label in record._new_labels if label not in gone]
            return
        for kind, names in _by_type(labels).items():
            record_changes.remove_labels(Registry.open(record._record_lake), record.uid, names, kind=kind)

    def __iter__(self) -> Iterator[ULabel]:
        return iter(self.all())

    def __len__(self) -> int:
        return len(self.all())

    def __contains__(self, label: object) -> bool:
        return label in self.all() or label in self.list()

    def __repr__(self) -> str:
        return f"<labels {self.list()}>"


def _by_type(labels: Any) -> dict[str, list[str]]:
    """Returns the names of labels by type; names without a type have the empty one."""
    by_type: dict[str, list[str]] = {}
    for kind, name in chain_versions.typed_labels(list(labels)):
        by_type.setdefault(kind, []).append(name)
    return by_type
