"""Records of files: checked for equal contents and inserted in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, and_, func, select, text

from lakefeed.catalog.lake import Lake
from lakefeed.catalog.version_uids import STEM_CHARACTERS, random_uid, revision_uid
from lakefeed.errors import InvalidArgumentError
from lakefeed.records import label_rows
from lakefeed.records.inserts import chunks, now_ms
from lakefeed.records.latest_rows import refresh_latest
from lakefeed.records.record_registry import Registry
from lakefeed.records.record_tables import PARENT, RECORD, RECORD_LABEL, Presence
from lakefeed.records.table_layout import ADVISORY_LOCK
from lakefeed.records.text_search import with_search_text
from lakefeed.records.version_rows import FILE_KIND
from lakefeed.records.visible_rows import LISTED
from lakefeed.registry.file_contents import StoredFile
from lakefeed.registry.version_labels import choose_label

FILES_LOCK: Final = ADVISORY_LOCK + 2
"""The key of the lock under which files are inserted in PostgreSQL. SQLite has one writer at a time."""
ABANDONED_MS: Final = 7 * 24 * 3600 * 1000
"""Members of a dataset that is not committed after this time are removed."""
_PENDING: Final = and_(RECORD.c.kind == FILE_KIND, RECORD.c.presence == int(Presence.PENDING))

Result = TypeVar("Result")


@dataclass
class NewFile:
    """A file to be recorded.

    Attributes:
        stored: its content.
        values: the values of the columns description, key, reference, reference_type, run, user and visibility.
        label: the version label that was asked for.
        stem: the chain whose next version it is; None for a new one.
        labels: the types and names of its labels.
        allow_duplicate: record it even if there is a record of the content.
    """

    stored: StoredFile
    values: dict[str, Any]
    label: str | None = None
    stem: str | None = None
    labels: Sequence[tuple[str, str]] = ()
    allow_duplicate: bool = False
    uid: str = field(default="", init=False)
    is_new: bool = field(default=True, init=False)

    @property
    def key(self) -> str | None:
        """The key."""
        return self.values.get("key")


def insert_files(
    lake: Lake, files: Sequence[NewFile], work: Callable[[Connection], Result], token: str | None = None
) -> Result:
    """Records files, or finds the records of their contents, in one transaction. Sets their uids.

    Args:
        lake: the lake.
        files: the files, whose contents are stored.
        work: is called in the transaction, after it.
        token: that of the dataset whose members they are; they are invisible until its commit is seen.

    Returns:
        The result of ``work``.

    Raises:
        InvalidArgumentError: a version label is taken. Nothing is recorded.
    """

    def insert(connection: Connection) -> Result:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": FILES_LOCK})
        abandoned = and_(_PENDING, RECORD.c.created < now_ms() - ABANDONED_MS)
        _drop(connection, list(connection.scalars(select(RECORD.c.token).where(abandoned).distinct())))
        known = _find_contents(connection, {each.stored.hash for each in files if not each.allow_duplicate})
        rows = [row for each in files if (row := _row_of(connection, each, known, token)) is not None]
        for chunk in chunks(rows):
            connection.execute(RECORD.insert(), chunk)
        if token is None:
            refresh_latest(connection, {row["stem"] for row in rows})
        new = [each for each in files if each.is_new]
        label_rows.attach_names(connection, [(each.uid, kind, name) for each in new for kind, name in each.labels])
        return work(connection)

    return Registry.open(lake).write_current(insert)


def _find_contents(connection: Connection, hashes: Iterable[str]) -> dict[str, list[tuple[str, str | None]]]:
    """Returns the uids and keys of the records of contents that are not in the trash, oldest first."""
    known: dict[str, list[tuple[str, str | None]]] = {}
    for chunk in chunks(sorted(hashes)):
        query = (
            select(RECORD.c.hash, RECORD.c.uid, RECORD.c.key)
            .where(RECORD.c.hash.in_(chunk), RECORD.c.kind == FILE_KIND, LISTED)
            .order_by(RECORD.c.id)
        )
        for hash, uid, key in connection.execute(query):
            known.setdefault(hash, []).append((uid, key))
    return known


def _row_of(
    connection: Connection, file: NewFile, known: dict[str, list[tuple[str, str | None]]], token: str | None
) -> dict[str, Any] | None:
    """Returns the row of a new file; None if there is a record of its content, whose uid the file gets."""
    hash = file.stored.hash
    for uid, key in () if file.allow_duplicate else known.get(hash, ()):
        if None in (key, file.key) or key == file.key:
            file.uid, file.is_new = uid, False
            return None
    stem, revision, label = _place(connection, file)
    file.uid, file.is_new = revision_uid(stem, revision), True
    known.setdefault(hash, []).append((file.uid, file.key))
    now, stored = now_ms(), file.stored
    row = {
        **file.values,
        "uid": file.uid,
        "stem": stem,
        "revision": revision,
        "kind": FILE_KIND,
        "label": label,
        "hash": hash,
        "size": stored.size,
        "sha256": stored.sha256,
        "suffix": stored.suffix,
        "url": stored.url,
        "presence": int(Presence.PRESENT if token is None else Presence.PENDING),
        "token": token,
        "created": now,
        "updated": now,
    }
    return with_search_text(row)


def _place(connection: Connection, file: NewFile) -> tuple[str, int, str]:
    """Returns the stem, the revision and the label of a new file."""
    if file.stem is None:
        return random_uid(STEM_CHARACTERS), 1, choose_label(file.label, ())
    chain = RECORD.c.stem == file.stem
    used = list(connection.scalars(select(RECORD.c.label).where(chain).order_by(RECORD.c.revision.desc())))
    newest = connection.scalar(select(func.max(RECORD.c.revision)).where(chain))
    if newest is None:
        raise InvalidArgumentError(f"is_new_version_of: there is no file of the chain {file.stem!r} any more")
    return file.stem, int(newest) + 1, choose_label(file.label, [each for each in used if each is not None])


def drop_pending(lake: Lake, token: str) -> None:
    """Removes the members of a dataset that was not saved."""
    with Registry.open(lake).write() as connection:
        _drop(connection, [token])


def _drop(connection: Connection, tokens: Sequence[str]) -> None:
    """Removes the files that wait for commits, with their labels and their places in lists."""
    for chunk in chunks(tokens):
        waiting = and_(RECORD.c.token.in_(chunk), _PENDING)
        uids = select(RECORD.c.uid).where(waiting)
        connection.execute(RECORD_LABEL.delete().where(RECORD_LABEL.c.record.in_(uids)))
        connection.execute(RECORD.delete().where(waiting))
        connection.execute(PARENT.delete().where(PARENT.c.child.in_(chunk)))
