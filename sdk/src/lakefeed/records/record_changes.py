"""Changes of the facts that may change: texts, labels, visibility; and the deletion of a record for good."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, and_, delete, or_, select, update

from lakefeed._validate import check_flag, check_text, is_list
from lakefeed.catalog.forget_version import forget_version
from lakefeed.catalog.version_tags import tags
from lakefeed.errors import InUseError, InvalidArgumentError, RecordNotFoundError, UnsupportedError, quoted_list
from lakefeed.records import feature_rows, label_rows
from lakefeed.records.inserts import now_ms, put
from lakefeed.records.latest_rows import refresh_latest
from lakefeed.records.record import Record
from lakefeed.records.record_query import visibility_of
from lakefeed.records.record_registry import Registry
from lakefeed.records.record_tables import (
    FACT,
    INPUT,
    PARENT,
    RECORD,
    RECORD_FEATURE_SET,
    RECORD_LABEL,
    RUN,
    Presence,
)
from lakefeed.records.text_search import with_search_text
from lakefeed.records.version_rows import DATASET_KIND, FILE_KIND
from lakefeed.records.visible_rows import Visibility

EDITABLE: Final = ("description", "reference", "reference_type")

Result = TypeVar("Result")


def describe(registry: Registry, uid: str, **texts: str | None) -> Record:
    """Changes the description, the reference or the type of the reference of a record. Returns the record.

    Raises:
        RecordNotFoundError: there is no record of the uid.
        InvalidArgumentError: another field was given, or a value is not text.
    """
    return change_record(registry, uid, texts)


def set_visibility(registry: Registry, uid: str, visibility: Visibility | int | str) -> Record:
    """Changes the visibility of a record, also to and from the trash. Returns the record.

    Raises:
        RecordNotFoundError: there is no record of the uid, or its version is gone.
        InvalidArgumentError: there is no such visibility.
        UnsupportedError: its dataset is in the trash.
    """
    return change_record(registry, uid, {}, visibility)


def change_record(
    registry: Registry, uid: str, texts: Mapping[str, str | None], visibility: Visibility | int | str | None = None
) -> Record:
    """Changes texts and the visibility of a record in one transaction. Returns the record.

    Raises:
        RecordNotFoundError, InvalidArgumentError, UnsupportedError: as for `describe` and `set_visibility`. Nothing is
            changed.
    """
    _check_texts(texts)
    chosen = None if visibility is None else visibility_of(visibility)
    if chosen is Visibility.GONE:
        raise InvalidArgumentError("visibility='gone': versions go by delete(permanent=True) or when they expire")

    def change(connection: Connection, row: Mapping[str, Any]) -> None:
        values: dict[str, Any] = {}
        if texts:
            described = with_search_text({**row, **texts})
            values = {name: described[name] for name in (*texts, "search_text")}
        if chosen is not None:
            _require_movable(row)
            values["visibility"] = int(chosen)
        connection.execute(update(RECORD).where(RECORD.c.uid == uid).values(**values, updated=now_ms()))
        if chosen is not None:
            refresh_latest(connection, [row["stem"]])

    return _change(registry, uid, change)


def _check_texts(texts: Mapping[str, str | None]) -> None:
    unknown = [name for name in texts if name not in EDITABLE]
    if unknown:
        raise InvalidArgumentError(
            f"{unknown[0]!r} does not change: it is part of the version. What changes is {quoted_list(EDITABLE)}"
        )
    for name, value in texts.items():
        if value is not None:
            check_text(value, name)


def _require_present(row: Mapping[str, Any]) -> None:
    if row["presence"] == Presence.GONE:
        raise RecordNotFoundError(f"the version of the record {row['uid']!r} has expired or was deleted")


def _require_movable(row: Mapping[str, Any]) -> None:
    _require_present(row)
    if row["presence"] == Presence.DATASET_IN_TRASH:
        raise UnsupportedError(
            f"the dataset of the record {row['uid']!r} is in the trash; Dataset.undelete({row['table']!r}) brings it "
            "back"
        )


def add_labels(registry: Registry, uid: str, labels: Iterable[str], *, kind: str = "", feature: str = "") -> Record:
    """Gives a record labels by name; labels that do not exist are made. Returns the record.

    Args:
        registry: the registry.
        uid: the uid of the record.
        labels: the names of the labels.
        kind: the type of the labels.
        feature: the uid of the feature that the labels are values of.

    Raises:
        RecordNotFoundError: there is no record of the uid, or its version is gone.
    """
    names = _names(labels)

    def change(connection: Connection, row: Mapping[str, Any]) -> None:
        _require_present(row)
        uids = label_rows.ensure_labels(connection, names, kind)
        label_rows.attach(connection, [(uid, each) for each in uids.values()], feature)

    return _change(registry, uid, change)


def remove_labels(registry: Registry, uid: str, labels: Iterable[str], *, kind: str = "") -> Record:
    """Takes labels from a record by name. Those that it does not have are ignored. Returns the record.

    Raises:
        RecordNotFoundError: there is no record of the uid.
    """
    names = _names(labels)

    def change(connection: Connection, row: Mapping[str, Any]) -> None:
        label_rows.detach(connection, uid, list(label_rows.find_labels(connection, names, kind).values()))

    return _change(registry, uid, change)


def set_features(registry: Registry, uid: str, features: Mapping[str, Sequence[str]]) -> Record:
    """Gives a record a set of features for each slot, by their names, in place of those that it has there.

    Raises:
        RecordNotFoundError: there is no record of the uid.
    """

    def change(connection: Connection, row: Mapping[str, Any]) -> None:
        sets = {slot: feature_rows.ensure_feature_set(connection, _names(names)) for slot, names in features.items()}
        rows = [{"record": uid, "slot": slot, "feature_set": each} for slot, each in sets.items()]
        put(connection, RECORD_FEATURE_SET, rows)

    return _change(registry, uid, change)


def put_fact(registry: Registry, uid: str, name: str, kind: str, value: Any, sha256: str | None = None) -> None:
    """Records a fact of a record or a run, in place of an earlier one of that name.

    Args:
        registry: the registry.
        uid: the uid of the record or run.
        name: the name of the fact.
        kind: the kind of fact, such as "model" or "report".
        value: a value that JSON can hold.
        sha256: a content of the blob store that garbage collections keep. Save it and call this under one lease.
    """
    row = {"record": uid, "name": name, "kind": kind, "json": json.dumps(value), "sha256": sha256, "at": now_ms()}
    with registry.write() as connection:
        put(connection, FACT, [row])


def facts_of(registry: Registry, uid: str) -> dict[str, Any]:
    """Returns the facts of a record or a run, by name."""
    query = select(FACT.c.name, FACT.c.json).where(FACT.c.record == uid)
    return registry.read_current(
        lambda connection: {name: json.loads(text) for name, text in connection.execute(query)}
    )


def users_of(registry: Registry, record: Record) -> tuple[str, ...]:
    """Returns what uses a record, as texts: runs that have read it, records that consist of it or were made of it."""
    runs = select(RUN.c.uid, RUN.c.name, RUN.c.external).join(INPUT, INPUT.c.run == RUN.c.uid)
    children = select(RECORD.c.uid, RECORD.c.name, RECORD.c.kind).join(PARENT, PARENT.c.child == RECORD.c.uid)
    parents = or_(PARENT.c.parent == record.uid, PARENT.c.parent == f"{record.dataset}@{record.tree_id}")
    exist = RECORD.c.presence != int(Presence.GONE)

    def read(connection: Connection) -> list[str]:
        readers = connection.execute(runs.where(INPUT.c.record == record.uid).order_by(INPUT.c.at, RUN.c.uid))
        texts = [f"run {name or external or uid}" for uid, name, external in readers]
        users = connection.execute(children.where(parents, exist).order_by(RECORD.c.uid))
        return [*texts, *(f"{kind} {name or uid} ({uid})" for uid, name, kind in users)]

    labels = _tags(registry, record)
    return (*dict.fromkeys(registry.read_current(read)), *(f"tag {each!r}" for each in labels))


def _tags(registry: Registry, record: Record) -> list[str]:
    if record.kind == FILE_KIND or record.dataset is None or record.visibility is Visibility.GONE:
        return []
    if not registry.lake.exists(record.dataset):
        return []
    return [name for name, number in tags(registry.lake.table(record.dataset)).items() if number == record.revision]


def delete_record(registry: Registry, uid: str, *, permanent: bool = False, force: bool = False) -> Record | None:
    """Moves a record to the trash, or deletes it for good. Returns the record as it is then; None if nothing is left.

    To delete a version of a dataset for good removes the version. Its record stays as gone, so that lineage names it.
    Contents are removed by garbage collections.

    Args:
        registry: the registry.
        uid: the uid of the record.
        permanent: delete it for good.
        force: delete it for good although others use it.

    Raises:
        RecordNotFoundError: there is no record of the uid.
        InUseError: runs, records or tags use it. ``users`` names them. Nothing was deleted.
        UnsupportedError: its dataset is in the trash, or it is a file tree, which has a function of its own.
    """
    check_flag(permanent, "permanent")
    check_flag(force, "force")
    if not permanent:
        return set_visibility(registry, uid, Visibility.TRASH)
    record = registry.get(uid)
    if record.visibility is Visibility.GONE:
        return record
    users = () if force else users_of(registry, record)
    if users:
        raise InUseError(
            f"{record.kind} {record.name!r} ({record.uid}) is used by {quoted_list(users)}. Nothing was deleted; "
            "force=True deletes it anyway",
            users,
        )
    if record.kind == FILE_KIND:
        _delete_rows(registry, record)
        return None
    return _forget_version(registry, record)


def _forget_version(registry: Registry, record: Record) -> Record:
    """Removes the version of a record from its dataset."""
    if record.kind != DATASET_KIND:
        raise UnsupportedError(f"{record.uid!r} is a version of a file tree: delete it with FileTree.delete")
    assert record.dataset is not None
    assert record.snapshot is not None
    if not registry.lake.exists(record.dataset):
        raise UnsupportedError(
            f"the dataset {record.dataset!r} is in the trash; delete it for good with "
            f"Dataset.empty_trash(name={record.dataset!r})"
        )
    forget_version(registry.lake, record.dataset, record.snapshot)
    return registry.get(record.uid)


def _delete_rows(registry: Registry, record: Record) -> None:
    """Removes the record of a file. It is a row of SQL alone, so one transaction does it."""
    with registry.write() as connection:
        for table in (RECORD_LABEL, RECORD_FEATURE_SET, FACT):
            connection.execute(delete(table).where(table.c.record == record.uid))
        if connection.scalar(select(INPUT.c.run).where(INPUT.c.record == record.uid).limit(1)) is None:
            connection.execute(delete(RECORD).where(RECORD.c.uid == record.uid))
        else:
            gone = update(RECORD).where(RECORD.c.uid == record.uid)
            connection.execute(gone.values(presence=int(Presence.GONE)))
        refresh_latest(connection, [record.stem])


def _change(registry: Registry, uid: str, change: Callable[[Connection, Mapping[str, Any]], None]) -> Record:
    """Calls ``change`` in a transaction with the row of a record. Returns the record after it."""
    registry.catch_up()
    existing = and_(RECORD.c.uid == uid, RECORD.c.presence != int(Presence.PENDING))
    with registry.write() as connection:
        row = connection.execute(select(RECORD).where(existing)).mappings().first()
        if row is None:
            raise RecordNotFoundError(f"no record has the uid {uid!r:.80}")
        change(connection, {str(name): value for name, value in row.items()})
        changed = connection.execute(select(RECORD).where(existing)).mappings().one()
        return Record.of({str(name): value for name, value in changed.items()})


def _names(names: Iterable[str]) -> list[str]:
    if not is_list(names):
        raise InvalidArgumentError(f"give a list of names, got {names!r:.80}")
    return [check_text(each, "name") for each in names]
