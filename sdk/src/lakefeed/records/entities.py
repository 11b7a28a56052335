"""The kinds of rows that can be queried: their fields and their relations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Column, Select, Table, and_, or_, select

from lakefeed.records.lookups import Condition, Field, Relation, TimeColumn
from lakefeed.records.record import FeatureRow, FeatureSetRow, LabelRow, Record, RunRow, TransformRow, UserRow
from lakefeed.records.record_tables import (
    FEATURE,
    FEATURE_SET,
    FEATURE_SET_MEMBER,
    INPUT,
    LABEL,
    PARENT,
    RECORD,
    RECORD_FEATURE_SET,
    RECORD_LABEL,
    RUN,
    TRANSFORM,
    USER,
)

Value = TypeVar("Value")


@dataclass(frozen=True)
class Entity(Generic[Value]):
    """A kind of rows.

    Attributes:
        name: the name for messages.
        table: the table.
        make: makes the value of a row.
        columns: the attributes of a value that a data frame shows.
        fields: the columns by the names of lookups.
        relations: for each name of a lookup, what gives the condition, and the condition of a row that has any.
        key: the column that identifies a row.
        searched: the columns of which a search reads the texts; a record has one for all.
        order: the columns of the default order, the newest or first row first.
    """

    name: str
    table: Table
    make: Callable[[Mapping[str, Any]], Value]
    columns: tuple[str, ...]
    fields: Mapping[str, Field]
    relations: Mapping[str, tuple[Relation, Condition]] = field(default_factory=dict)
    key: str = "uid"
    searched: tuple[str, ...] = ("name",)
    order: tuple[str, ...] = ("-created",)


def _attributes(kind: type) -> tuple[str, ...]:
    """Returns the names of the attributes of a dataclass that a data frame shows."""
    return tuple(each.name for each in fields(kind) if each.repr)


def _columns(table: Table, *left_out: str, **renamed: str) -> dict[str, Field]:
    """Returns the fields of a table: times under two names, and columns that have other names in lookups."""
    named: dict[str, Field] = {each.name: each for each in table.columns if each.name not in left_out}
    named |= {name: table.c[column] for name, column in renamed.items()}
    for name in ("created", "updated", "started", "finished"):
        if name in table.c:
            named[name] = named[f"{name}_at"] = TimeColumn(table.c[name])
    return named


def _named(uids: Select[Any], names: tuple[Column[Any], ...], wanted: str) -> Select[Any]:
    """Returns a query for the uids of the rows that a text names, by uid or name."""
    return uids.where(or_(*(each == wanted for each in names)))


def _labelled(wanted: str) -> Condition:
    labels = _named(select(LABEL.c.uid), (LABEL.c.uid, LABEL.c.name), wanted)
    return RECORD.c.uid.in_(select(RECORD_LABEL.c.record).where(RECORD_LABEL.c.label.in_(labels)))


def _sets_of_feature(wanted: str) -> Select[Any]:
    features = _named(select(FEATURE.c.uid), (FEATURE.c.uid, FEATURE.c.name), wanted)
    return select(FEATURE_SET_MEMBER.c.feature_set).where(FEATURE_SET_MEMBER.c.feature.in_(features))


def _with_feature(wanted: str) -> Condition:
    sets = _sets_of_feature(wanted)
    return RECORD.c.uid.in_(select(RECORD_FEATURE_SET.c.record).where(RECORD_FEATURE_SET.c.feature_set.in_(sets)))


def _with_feature_set(wanted: str) -> Condition:
    names = (FEATURE_SET.c.uid, FEATURE_SET.c.hash, FEATURE_SET.c.name)
    sets = _named(select(FEATURE_SET.c.uid), names, wanted)
    return RECORD.c.uid.in_(select(RECORD_FEATURE_SET.c.record).where(RECORD_FEATURE_SET.c.feature_set.in_(sets)))


def _runs(wanted: str) -> Select[Any]:
    return _named(select(RUN.c.uid), (RUN.c.uid, RUN.c.external, RUN.c.name), wanted)


def _runs_of_transform(wanted: str) -> Select[Any]:
    names = (TRANSFORM.c.uid, TRANSFORM.c.key, TRANSFORM.c.name)
    return select(RUN.c.uid).where(RUN.c.transform.in_(_named(select(TRANSFORM.c.uid), names, wanted)))


def _of_dataset(wanted: str) -> Condition:
    """Returns the condition of versions of a dataset of this name, and of members of a record of this uid."""
    namespace, _, name = wanted.rpartition(".")
    of_name = and_(RECORD.c.table == name, RECORD.c.namespace == namespace) if namespace else RECORD.c.table == wanted
    return or_(of_name, RECORD.c.uid.in_(select(PARENT.c.parent).where(PARENT.c.child == wanted)))


def _input_of(wanted: str) -> Condition:
    return RECORD.c.uid.in_(select(INPUT.c.record).where(INPUT.c.run.in_(_runs(wanted))))


_ANY_LABEL: Final = RECORD.c.uid.in_(select(RECORD_LABEL.c.record))
_ANY_FEATURE: Final = RECORD.c.uid.in_(select(RECORD_FEATURE_SET.c.record))
_ANY_TRANSFORM: Final = and_(
    RECORD.c.run.is_not(None), RECORD.c.run.in_(select(RUN.c.uid).where(RUN.c.transform.is_not(None)))
)

RECORD_ENTITY: Final = Entity(
    "record",
    RECORD,
    Record.of,
    _attributes(Record),
    _columns(
        RECORD, "visibility", "presence", "facts_json", "search_text", "token", "n", "run",
        version="label", rows="n", created_by="user", is_latest="latest",
    ),
    {
        "labels": (_labelled, _ANY_LABEL),
        "ulabels": (_labelled, _ANY_LABEL),
        "feature": (_with_feature, _ANY_FEATURE),
        "feature_sets": (_with_feature_set, _ANY_FEATURE),
        "run": (lambda wanted: RECORD.c.run.in_(_runs(wanted)), RECORD.c.run.is_not(None)),
        "transform": (lambda wanted: RECORD.c.run.in_(_runs_of_transform(wanted)), _ANY_TRANSFORM),
        "dataset": (_of_dataset, RECORD.c.table.is_not(None)),
        "input_of": (_input_of, RECORD.c.uid.in_(select(INPUT.c.record))),
    },
)  # fmt: skip

RUN_ENTITY: Final = Entity(
    "run",
    RUN,
    RunRow.of,
    _attributes(RunRow),
    _columns(RUN, "params_json", "facts_json", "transform", created_by="user"),
    {
        "transform": (lambda wanted: RUN.c.uid.in_(_runs_of_transform(wanted)), RUN.c.transform.is_not(None)),
        "inputs": (
            lambda wanted: RUN.c.uid.in_(select(INPUT.c.run).where(INPUT.c.record == wanted)),
            RUN.c.uid.in_(select(INPUT.c.run)),
        ),
    },
    searched=("name", "external"),
)

TRANSFORM_ENTITY: Final = Entity(
    "transform",
    TRANSFORM,
    TransformRow.of,
    _attributes(TransformRow),
    _columns(TRANSFORM, "code_json", created_by="user"),
    searched=("name", "key", "description"),
)

LABEL_ENTITY: Final = Entity(
    "label",
    LABEL,
    lambda row: LabelRow(**{name: row[name] for name in LabelRow.__dataclass_fields__}),
    _attributes(LabelRow),
    _columns(LABEL, "search_text", created_by="user"),
    {
        "record": (
            lambda wanted: LABEL.c.uid.in_(select(RECORD_LABEL.c.label).where(RECORD_LABEL.c.record == wanted)),
            LABEL.c.uid.in_(select(RECORD_LABEL.c.label)),
        )
    },
    searched=("name", "description"),
    order=("name",),
)


def _features_of_record(wanted: str) -> Condition:
    sets = select(RECORD_FEATURE_SET.c.feature_set).where(RECORD_FEATURE_SET.c.record == wanted)
    members = select(FEATURE_SET_MEMBER.c.feature).where(FEATURE_SET_MEMBER.c.feature_set.in_(sets))
    return FEATURE.c.uid.in_(members)


def _features_of_set(wanted: str) -> Condition:
    names = (FEATURE_SET.c.uid, FEATURE_SET.c.hash, FEATURE_SET.c.name)
    sets = _named(select(FEATURE_SET.c.uid), names, wanted)
    return FEATURE.c.uid.in_(select(FEATURE_SET_MEMBER.c.feature).where(FEATURE_SET_MEMBER.c.feature_set.in_(sets)))


_IN_ANY_SET: Final = FEATURE.c.uid.in_(select(FEATURE_SET_MEMBER.c.feature))

FEATURE_ENTITY: Final = Entity(
    "feature",
    FEATURE,
    lambda row: FeatureRow(**row),
    _attributes(FeatureRow),
    _columns(FEATURE, created_by="user"),
    {"record": (_features_of_record, _IN_ANY_SET), "feature_set": (_features_of_set, _IN_ANY_SET)},
    searched=("name", "description"),
    order=("name",),
)

FEATURE_SET_ENTITY: Final = Entity(
    "feature set",
    FEATURE_SET,
    lambda row: FeatureSetRow(**row),
    _attributes(FeatureSetRow),
    _columns(FEATURE_SET),
    {
        "feature": (lambda wanted: FEATURE_SET.c.uid.in_(_sets_of_feature(wanted)), FEATURE_SET.c.n > 0),
        "record": (
            lambda wanted: FEATURE_SET.c.uid.in_(
                select(RECORD_FEATURE_SET.c.feature_set).where(RECORD_FEATURE_SET.c.record == wanted)
            ),
            FEATURE_SET.c.uid.in_(select(RECORD_FEATURE_SET.c.feature_set)),
        ),
    },
)

USER_ENTITY: Final = Entity(
    "user",
    USER,
    lambda row: UserRow(**row),
    _attributes(UserRow),
    _columns(USER, uid="name"),
    key="name",
    order=("name",),
)
