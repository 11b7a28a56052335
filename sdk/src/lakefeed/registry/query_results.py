"""Queries whose results are records with methods: those of `lakefeed.records`, which give values, made into records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from lakefeed.catalog.lake import Lake
from lakefeed.records.entities import RECORD_ENTITY, Entity
from lakefeed.records.lookups import Condition, Field
from lakefeed.records.record_frames import frame
from lakefeed.records.record_query import EXISTING, get_record
from lakefeed.records.record_query import Query as ValueQuery
from lakefeed.records.record_registry import Registry
from lakefeed.records.record_tables import RECORD

if TYPE_CHECKING:
    import pandas as pd

AnyRecord = TypeVar("AnyRecord")
MakeRecord = Callable[[Lake, Mapping[str, Any]], AnyRecord]


@dataclass(frozen=True)
class Query(ValueQuery[AnyRecord]):
    """A query of records: lazy, iterable, and evaluated whenever records are asked for.

    Attributes:
        values: the kind of rows, as plain values for `df`; None if it has none.

    Example:
        >>> from lakefeed.registry import Feature
        >>> Feature("height", "float").save()
        >>> Feature.filter(name__startswith="hei").one().dtype
        'float'
    """

    values: Entity[Any] | None = None

    def list(self) -> list[AnyRecord]:
        """Returns the records."""
        return self.all()

    def df(self) -> pd.DataFrame:
        """Returns the records as a DataFrame.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        plain = self.entity if self.values is None else self.values
        query = ValueQuery(self.reader, plain, self.conditions, self.visibility, self.order, self.most, self.words)
        return frame(query.all(), plain.columns)

    def __repr__(self) -> str:
        return f"<Query of {self.count()} records of {self.entity.name}>"


def query_rows(
    lake: Lake, entity: Entity[Any], name: str, make: MakeRecord[AnyRecord], aliases: Mapping[str, Field]
) -> Query[AnyRecord]:
    """Returns a query of rows of a kind, of which records are made.

    Args:
        lake: the lake.
        entity: the kind of rows.
        name: the name of the registry, for messages.
        make: makes a record of a row.
        aliases: further names of columns in lookups.
    """
    own = replace(
        entity,
        name=name,
        make=lambda row: make(lake, {str(column): value for column, value in row.items()}),
        fields={**entity.fields, **aliases},
    )
    return Query(Registry.open(lake), own, values=replace(entity, fields=own.fields))


def query_records(
    kind: type[Any], kinds: tuple[str, ...], lookups: Mapping[str, Any], lake: Lake | None = None
) -> Query[Any]:
    """Returns the records of some kinds that fit lookups. Those in the trash are left out unless a lookup asks."""
    query: Query[Any] = query_rows(lake or Lake.current(), RECORD_ENTITY, kind.__name__, kind._of_row, {})
    of_kinds: Condition = RECORD.c.kind.in_(kinds)
    query = replace(query, conditions=(of_kinds,))
    return query.filter(**{name: _run_id(name, value) for name, value in lookups.items()})  # type: ignore[return-value]


def _run_id(lookup: str, value: Any) -> Any:
    """Returns the value of a lookup; of a run that `track` began, its id."""
    is_tracked = lookup.partition("__")[0] in ("run", "input_of") and not hasattr(value, "uid")
    return value.id if is_tracked and isinstance(getattr(value, "id", None), str) else value


def get_row(kind: type[Any], kinds: tuple[str, ...], uid: str) -> Any:
    """Returns the record of a uid, of a stem (its newest), or of a prefix that only one has; also from the trash.

    Raises:
        RecordNotFoundError: there is none.
        MultipleRecordsError: several stems have the prefix.
    """
    return get_record(query_records(kind, kinds, {"visibility": EXISTING}), uid)
