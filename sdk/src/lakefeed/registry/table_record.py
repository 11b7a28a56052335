"""Records of the small registries, whose rows are their fields: labels, features, runs, users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from lakefeed._validate import check_text
from lakefeed.catalog.lake import Lake
from lakefeed.errors import RecordNotFoundError, quoted_list
from lakefeed.records.entities import Entity
from lakefeed.registry.queried_record import QueriedRecord
from lakefeed.registry.query_results import Query, query_rows
from lakefeed.registry.record_base import time_of


class TableRecord(QueriedRecord):
    """A record of a small registry.

    Class attributes: ``_entity`` is the kind of rows, ``_columns`` has the columns by field, ``_key`` is the field that
    identifies a record, and ``_shown`` are the fields that `repr` shows.
    """

    _entity: ClassVar[Entity[Any]]
    _columns: ClassVar[Mapping[str, str]]
    _key: ClassVar[str] = "uid"
    _shown: ClassVar[tuple[str, ...]] = ("uid", "name", "type", "dtype", "key", "version", "status")
    _record_lake: Lake
    _row: Mapping[str, Any]

    @classmethod
    def _of_row(cls, lake: Lake, row: Mapping[str, Any]) -> Self:
        record = cls.__new__(cls)
        record._record_lake, record._row = lake, row
        return record

    def _value(self, field: str) -> Any:
        value = self._row.get(self._columns[field])
        return time_of(value) if field.endswith("_at") else value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._columns:
            raise AttributeError(
                f"{type(self).__name__} has no field {name!r}; it has {quoted_list(self._columns, 20)}"
            )
        return self._value(name)

    def __repr__(self) -> str:
        shown = {name: self._value(name) for name in self._columns if name in self._shown}
        parts = ", ".join(f"{name}={value!r}" for name, value in shown.items() if value not in (None, ""))
        return f"{type(self).__name__}({parts})"

    @classmethod
    def filter(cls, **lookups: Any) -> Query[Self]:
        """Returns the records that fit all conditions, as a lazy query.

        Args:
            lookups: as of `Query.filter`.

        Raises:
            InvalidArgumentError: there is no such field or comparison. The message names similar ones.
        """
        table, fields = cls._entity.table, cls._entity.fields
        aliases = {field: table.c[column] for field, column in cls._columns.items() if field not in fields}
        query = query_rows(Lake.current(), cls._entity, cls.__name__, cls._of_row, aliases)
        return query.filter(**lookups)  # type: ignore[return-value]

    @classmethod
    def get(cls, uid: str) -> Self:
        """Returns the record of a uid.

        Args:
            uid: the uid, or the name of a record without one.

        Raises:
            RecordNotFoundError: there is none.
        """
        record = cls.filter(**{cls._key: check_text(uid, "uid")}).first()
        if record is None:
            raise RecordNotFoundError(f"there is no {cls.__name__} {uid!r}")
        return record

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other) or not isinstance(other, TableRecord):
            return NotImplemented
        own = self._value(self._key)
        return self is other or (own is not None and own == other._value(other._key))

    def __hash__(self) -> int:
        return hash((type(self), self._value(self._key)))
