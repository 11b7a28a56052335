"""Lazy queries of the registry. Each call that returns rows first catches up with the lake."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, cast, overload

from sqlalchemy import ColumnElement, Connection, Select, and_, false, func, or_, select

from lakefeed._validate import check_text, check_whole
from lakefeed.catalog.version_uids import STEM_CHARACTERS
from lakefeed.errors import InvalidArgumentError, MultipleRecordsError, RecordNotFoundError, quoted_list
from lakefeed.records.entities import RECORD_ENTITY, Entity
from lakefeed.records.lookups import (
    Condition,
    TimeColumn,
    field_condition,
    parse_lookup,
    relation_condition,
)
from lakefeed.records.record import Record
from lakefeed.records.record_tables import LABEL, RECORD, RECORD_LABEL, Presence
from lakefeed.records.text_search import contains, fold, rank, starts_with, words_of
from lakefeed.records.visible_rows import LISTED, Visibility, visibility_condition

if TYPE_CHECKING:
    import pandas as pd

Value = TypeVar("Value")
Result = TypeVar("Result")

SHOWN: Final = 5
MAX_LIMIT: Final = 1 << 40
EXISTING: Final = "all"
"""The visibility of all records that exist: also of those that are hidden or in the trash."""


class Reader(Protocol):
    """Runs queries: a `Registry`."""

    def read_current(self, work: Callable[[Connection], Result]) -> Result:
        """Returns the result of ``work`` on a connection, after the registry has caught up with the lake."""


@dataclass(frozen=True)
class Query(Generic[Value]):
    """A query of the rows of one kind. It is immutable, and runs when rows are asked for.

    Attributes:
        reader: runs it.
        entity: the kind of rows.
        conditions: the conditions, of which all must hold.
        visibility: the condition of the visibility of records; None for the default.
        order: the fields to order by, with "-" for descending order; None for the default.
        most: the number of rows at most.
        words: the text to search for.
        has_prefix: a condition compares the beginning of a text.
    """

    reader: Reader
    entity: Entity[Value]
    conditions: tuple[Condition, ...] = ()
    visibility: Condition | None = None
    order: Sequence[str] | None = None
    most: int | None = None
    words: str | None = None
    has_prefix: bool = False

    def filter(self, **lookups: Any) -> Query[Value]:
        """Returns the query of the rows that also match these lookups.

        A lookup is a field, or a field and an operator: ``name="x"``, ``name__startswith="x"``, ``rows__gte=10``,
        ``run__in=[…]``. Records have the relations ``labels``, ``feature``, ``feature_sets``, ``run``, ``transform``,
        ``dataset`` and ``input_of``, and ``visibility``. A list for a relation means all of its items. None means that
        there is no value.

        Raises:
            InvalidArgumentError: there is no such field or operator, or the value does not fit. The message names
                similar ones.
        """
        fields, relations = self.entity.fields, self.entity.relations
        has_visibility = self.entity.table is RECORD
        names = {*fields, *relations, *(("visibility",) if has_visibility else ())}
        conditions, visibility, has_prefix = list(self.conditions), self.visibility, self.has_prefix
        for lookup, value in lookups.items():
            name, operator = parse_lookup(lookup, names, self.entity.name)
            if name == "visibility" and has_visibility:
                visibility = _visibility(lookup, operator, value)
            elif name in relations:
                relation, anything = relations[name]
                conditions.append(relation_condition(relation, lookup, operator, value, anything))
            else:
                conditions.append(field_condition(fields[name], lookup, operator, value))
                has_prefix |= operator == "startswith"
        return replace(self, conditions=tuple(conditions), visibility=visibility, has_prefix=has_prefix)

    def search(self, text: str) -> Query[Value]:
        """Returns the query of the rows that have every word of a text, best first.

        A word may be part of the name, description, key, label of the version, reference, or a label. Case does not
        matter. A row whose name is the text comes first, then those whose names start with it, then the newest.

        Raises:
            InvalidArgumentError: ``text`` is not text.
        """
        check_text(text, "text")
        conditions = tuple(self._has_word(word) for word in words_of(text))
        return replace(self, conditions=(*self.conditions, *conditions), words=text)

    def order_by(self, *fields: str) -> Query[Value]:
        """Returns the query with the rows in the order of fields; ``"-created_at"`` for descending order.

        Raises:
            InvalidArgumentError: there is no such field.
        """
        for each in fields:
            name = str(each).removeprefix("-")
            if name not in self.entity.fields:
                near = difflib.get_close_matches(name, self.entity.fields, n=3)
                hint = f" Did you mean {quoted_list(near)}?" if near else ""
                raise InvalidArgumentError(
                    f"order_by({each!r:.80}): a {self.entity.name} has no such field.{hint} The fields are "
                    f"{quoted_list(sorted(self.entity.fields), len(self.entity.fields))}"
                )
        return replace(self, order=fields)

    def limit(self, rows: int) -> Query[Value]:
        """Returns the query of the first rows.

        Raises:
            InvalidArgumentError: ``rows`` is not a whole number from 0.
        """
        rows = min(check_whole(rows, "rows"), MAX_LIMIT)
        return replace(self, most=rows if self.most is None else min(rows, self.most))

    def all(self) -> list[Value]:
        """Returns all rows."""
        return self._rows(self.most)

    def first(self) -> Value | None:
        """Returns the first row; None if there is none."""
        rows = self._rows(1 if self.most is None else min(1, self.most))
        return rows[0] if rows else None

    def one(self) -> Value:
        """Returns the only row.

        Raises:
            RecordNotFoundError: there is none.
            MultipleRecordsError: there are several. The message names the first ones.
        """
        row = self.one_or_none()
        if row is None:
            raise RecordNotFoundError(f"no {self.entity.name} matches the query")
        return row

    def one_or_none(self) -> Value | None:
        """Returns the only row; None if there is none.

        Raises:
            MultipleRecordsError: there are several. The message names the first ones.
        """
        rows = self._rows(SHOWN + 1 if self.most is None else min(SHOWN + 1, self.most))
        if len(rows) > 1:
            uids = [cast(Any, each).uid for each in rows]
            more = " and others" if len(rows) > SHOWN else ""
            raise MultipleRecordsError(
                f"several {self.entity.name}s match the query: {quoted_list(uids[:SHOWN])}{more}. Add a lookup, or "
                "take first()"
            )
        return rows[0] if rows else None

    def count(self) -> int:
        """Returns the number of rows."""
        if self.most is None:
            statement = select(func.count()).select_from(self.entity.table).where(*self._where())
        else:
            limited = select(self.entity.table.c[self.entity.key]).where(*self._where()).limit(self.most)
            statement = select(func.count()).select_from(limited.subquery())
        return self.reader.read_current(lambda connection: int(connection.scalar(statement) or 0))

    def exists(self) -> bool:
        """Returns whether there is a row."""
        statement = select(self.entity.table.c[self.entity.key]).where(*self._where()).limit(1)
        return self.most != 0 and self.reader.read_current(lambda connection: connection.scalar(statement) is not None)

    def df(self) -> pd.DataFrame:
        """Returns the rows as a pandas DataFrame.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        from lakefeed.records.record_frames import frame

        return frame(self.all(), self.entity.columns)

    def __iter__(self) -> Iterator[Value]:
        return iter(self.all())

    def __len__(self) -> int:
        return self.count()

    def __bool__(self) -> bool:
        return self.exists()

    @overload
    def __getitem__(self, index: int) -> Value: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Value]: ...

    def __getitem__(self, index: int | slice) -> Value | Sequence[Value]:
        if isinstance(index, slice) or index < 0:
            return self.all()[index]
        return self._rows(index + 1 if self.most is None else min(index + 1, self.most))[index]

    def _rows(self, most: int | None) -> list[Value]:
        statement, make = self._statement(most), self.entity.make
        return self.reader.read_current(
            lambda connection: [make(row) for row in connection.execute(statement).mappings()]  # type: ignore[arg-type]
        )

    def _statement(self, most: int | None) -> Select[Any]:
        table, order = self.entity.table, self._order()
        if self.words is None or most is None:
            return select(table).where(*self._where()).order_by(*order).limit(most)
        # Many rows may match. Only their keys are sorted.
        key = table.c["id"] if "id" in table.c else table.c[self.entity.key]
        best = select(key).where(*self._where()).order_by(*order).limit(most)
        return select(table).where(key.in_(best)).order_by(*order)

    def _order(self) -> list[ColumnElement[Any]]:
        table, order = self.entity.table, list[ColumnElement[Any]]()
        if self.words is not None and self.order is None:
            ranked: ColumnElement[str] = RECORD.c.search_text if table is RECORD else func.lower(table.c.name) + "\n"
            order.append(rank(ranked, self.words))
        for each in self.entity.order if self.order is None else self.order:
            field = self.entity.fields[each.removeprefix("-")]
            column: ColumnElement[Any] = field.column if isinstance(field, TimeColumn) else field
            if self.has_prefix and isinstance(field, TimeColumn):
                column = column + 0  # else SQLite reads all rows in this order, not those of the prefix
            order.append(column.desc() if each.startswith("-") else column.asc())
        last = table.c.id if "id" in table.c else table.c[self.entity.key]
        return [*order, last.desc()]

    def _where(self) -> tuple[Condition, ...]:
        if self.entity.table is not RECORD:
            return self.conditions
        shown = visibility_condition(Visibility.DEFAULT) if self.visibility is None else self.visibility
        return (*self.conditions, shown)

    def _has_word(self, word: str) -> Condition:
        table = self.entity.table
        if table is not RECORD:
            return or_(false(), *(contains(func.lower(table.c[name]), word) for name in self.entity.searched))
        labels = select(LABEL.c.uid).where(contains(LABEL.c.search_text, word))
        labelled = RECORD.c.uid.in_(select(RECORD_LABEL.c.record).where(RECORD_LABEL.c.label.in_(labels)))
        return or_(contains(RECORD.c.search_text, word), labelled)


def _visibility(lookup: str, operator: str, value: Any) -> Condition:
    """Returns the condition of a lookup of the visibility: one, several with ``__in``, or None or "all" for all."""
    if operator == "in" and isinstance(value, list | tuple | set | frozenset):
        return or_(false(), *(visibility_condition(visibility_of(each)) for each in value))
    if operator != "exact":
        raise InvalidArgumentError(f"{lookup!r}: the visibility has the operators 'exact' and 'in' only")
    if value is None or value == EXISTING:
        return RECORD.c.presence.in_((int(Presence.PRESENT), int(Presence.DATASET_IN_TRASH)))
    return visibility_condition(visibility_of(value))


def visibility_of(value: Any) -> Visibility:
    """Returns a visibility of its number or name.

    Raises:
        InvalidArgumentError: there is none.
    """
    names = [each.name.lower() for each in Visibility]
    if isinstance(value, str) and value.lower() in names:
        return Visibility[value.upper()]
    number = getattr(value, "value", value)
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < len(Visibility):
        return Visibility(number)
    raise InvalidArgumentError(
        f"visibility={value!r:.80}: choose from {quoted_list(names)}, or {EXISTING!r} for all records that exist"
    )


def get_record(query: Query[Record], uid: str) -> Record:
    """Returns the record of a uid, of a stem, or of a prefix that only one stem has. See `Registry.get`."""
    if not check_text(uid, "uid"):
        raise InvalidArgumentError("uid='': give the uid of a record, its first 16 characters, or a prefix")
    exact = _any_visibility(query).filter(uid=uid).first()
    if exact is not None:
        return exact
    prefix = and_(starts_with(RECORD.c.uid, uid), RECORD.c.presence != int(Presence.PENDING))
    matching = replace(query, conditions=(*query.conditions, prefix))
    of_prefix = select(RECORD.c.stem).where(*matching.conditions)
    ends = (RECORD.c.uid.asc(), RECORD.c.uid.desc())  # the first and the last one tell whether there are several
    stems = query.reader.read_current(
        lambda connection: sorted({*(s for end in ends for s in connection.scalars(of_prefix.order_by(end).limit(1)))})
    )
    if not stems:
        near = query.search(fold(uid)).limit(SHOWN).all() if len(uid) < STEM_CHARACTERS else []
        hint = f" Records of that name are {quoted_list(each.uid for each in near)}." if near else ""
        raise RecordNotFoundError(f"no {RECORD_ENTITY.name} has the uid {uid!r}.{hint} Query.search finds records")
    if len(stems) > 1:
        raise MultipleRecordsError(
            f"several {RECORD_ENTITY.name}s have uids that start with {uid!r}, such as those of {quoted_list(stems)}"
        )
    newest = _any_visibility(query).filter(stem=stems[0]).order_by("-revision")
    return replace(newest, visibility=LISTED).first() or newest.limit(1).one()


def _any_visibility(query: Query[Record]) -> Query[Record]:
    return replace(query, visibility=RECORD.c.presence != int(Presence.PENDING))
