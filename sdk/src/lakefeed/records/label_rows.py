"""Labels, and which records have them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, bindparam, delete, select

from lakefeed.catalog.version_uids import random_uid
from lakefeed.records.inserts import chunks, insert_new, now_ms
from lakefeed.records.record_tables import LABEL, RECORD_LABEL
from lakefeed.records.text_search import fold

LABEL_CHARACTERS = 8

_FIND = select(LABEL.c.name, LABEL.c.uid).where(
    LABEL.c.kind == bindparam("kind"), LABEL.c.name.in_(bindparam("names", expanding=True))
)


def ensure_labels(
    connection: Connection, names: Iterable[str], kind: str = "", user: str | None = None
) -> dict[str, str]:
    """Returns the uids of labels by their names. Labels that do not exist are made."""
    wanted = list(dict.fromkeys(names))
    uids = find_labels(connection, wanted, kind)
    new = [
        {
            "uid": random_uid(LABEL_CHARACTERS),
            "kind": kind,
            "name": name,
            "user": user,
            "search_text": fold(name),
            "created": now_ms(),
        }
        for name in wanted
        if name not in uids
    ]
    insert_new(connection, LABEL, new)
    return uids if not new else find_labels(connection, wanted, kind)


def find_labels(connection: Connection, names: Sequence[str], kind: str = "") -> dict[str, str]:
    """Returns the uids of the labels that exist, by their names."""
    uids: dict[str, str] = {}
    for chunk in chunks(names):
        uids |= {row[0]: row[1] for row in connection.execute(_FIND, {"kind": kind, "names": chunk})}
    return uids


def attach_names(connection: Connection, labels: Sequence[tuple[str, str, str]]) -> None:
    """Gives records labels, which are made if they are new: tuples of the uid of a record, a type and a name."""
    for kind in dict.fromkeys(kind for _, kind, _ in labels):
        named = [(record, name) for record, each, name in labels if each == kind]
        uids = ensure_labels(connection, (name for _, name in named), kind)
        attach(connection, [(record, uids[name]) for record, name in named])


def attach(connection: Connection, pairs: Iterable[tuple[str, str]], feature: str = "") -> None:
    """Gives records labels: pairs of the uids of a record and of a label."""
    rows = [{"record": record, "label": label, "feature": feature} for record, label in pairs]
    insert_new(connection, RECORD_LABEL, rows)


def detach(connection: Connection, record: str, labels: Sequence[str]) -> None:
    """Takes labels from a record."""
    connection.execute(
        delete(RECORD_LABEL).where(RECORD_LABEL.c.record == record, RECORD_LABEL.c.label.in_(list(labels)))
    )
