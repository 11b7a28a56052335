"""Records go to the trash and come back, or are deleted for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakefeed._validate import check_flag
from lakefeed.errors import InUseError, InvalidArgumentError, UnsupportedError, quoted_list
from lakefeed.records.record import Record as RecordValue
from lakefeed.records.record_changes import delete_record, set_visibility, users_of
from lakefeed.records.record_registry import Registry
from lakefeed.records.record_tables import Presence
from lakefeed.records.version_rows import TREE_KIND
from lakefeed.registry.dataset_access import tree_of
from lakefeed.registry.record_rows import RecordRow
from lakefeed.registry.visibility import Visibility

if TYPE_CHECKING:
    from lakefeed.registry.record_base import Record


def delete(record: Record, permanent: bool | None, storage: bool | None, force: bool) -> None:
    """Moves a record to the trash, or deletes it for good; see `Dataset.delete` and `File.delete`."""
    row = record._current_row("delete")
    check_flag(force, "force")
    for value, name in ((permanent, "permanent"), (storage, "storage")):
        if value is not None:
            check_flag(value, name)
    if storage is False:
        raise UnsupportedError(
            "storage=False: a content without a record would be garbage. Leave storage out; contents go by "
            "lakefeed.collect_garbage() alone"
        )
    if permanent:
        _delete_for_good(record, row, force)
    elif record.visibility != Visibility.trash or row["presence"] == Presence.GONE:
        _set_visibility(record, Visibility.trash)
    elif permanent is None:
        raise InvalidArgumentError(
            f"{record!r} is in the trash already; pass permanent=True to delete it for good, or call restore()"
        )


def restore(record: Record) -> None:
    """Brings a record back from the trash. Nothing happens if it is not there."""
    record._current_row("restore")
    if record.visibility == Visibility.trash:
        _set_visibility(record, Visibility.default)


def _set_visibility(record: Record, visibility: Visibility) -> None:
    set_visibility(Registry.open(record._record_lake), str(record.uid), int(visibility))
    record._reload()


def _delete_for_good(record: Record, row: RecordRow, force: bool) -> None:
    registry, uid = Registry.open(record._record_lake), str(row["uid"])
    if row["kind"] == TREE_KIND:
        _delete_tree(record, registry.get(uid), force)
    else:
        delete_record(registry, uid, permanent=True, force=force)
    registry.catch_up()
    record._current_row("delete")


def _delete_tree(record: Record, value: RecordValue, force: bool) -> None:
    """Deletes a version of a file tree.

    Raises:
        InUseError: others use it, and ``force`` is False.
    """
    from lakefeed.trees.file_tree import FileTree

    users = () if force else users_of(Registry.open(record._record_lake), value)
    if users:
        raise InUseError(
            f"{record!r} is used by {quoted_list(users)}. Nothing was deleted; force=True deletes it anyway", users
        )
    tree = tree_of(record._record_lake, record._require_row("delete"))
    if tree is not None:
        FileTree.delete(tree.id, force=force)
