"""Lists of files as datasets: a row for each file, in order."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection

from lakefeed.catalog.lake import Lake
from lakefeed.dataset import Dataset as Rows
from lakefeed.errors import RecordNotFoundError, quoted_list
from lakefeed.media.file import FILE
from lakefeed.records.record_tables import Presence
from lakefeed.records.version_rows import DATASET_KIND
from lakefeed.registry import file_inserts, file_saving, record_rows
from lakefeed.registry.content_identity import hash_of_files, save_content
from lakefeed.registry.dataset_access import facts_of, member_uids
from lakefeed.registry.file_contents import store_files
from lakefeed.registry.file_reads import handle_of
from lakefeed.registry.record_rows import RecordRow
from lakefeed.registry.run_inputs import reading
from lakefeed.registry.table_writes import WrittenVersion, write_rows
from lakefeed.registry.version_facts import VersionFacts
from lakefeed.run.write_context import content_saving

if TYPE_CHECKING:
    from lakefeed.registry.dataset_records import Dataset
    from lakefeed.registry.file_records import File

LIST_COLUMNS: Final = ("ordinal", "uid", "key", "suffix", "sha256", "size", "file")
"""The columns of a list of files."""


def save_list(dataset: Dataset, files: Sequence[File], facts: VersionFacts) -> RecordRow:
    """Saves a list of files, with those of its files that are not saved yet. Returns its record.

    New files are invisible until the commit of the dataset. If there is a record of the list, they are removed again.
    """
    lake, new = dataset._record_lake, file_saving.unsaved(files)
    with content_saving(lake) as (writer, check):
        stored = store_files(lake, writer, [each._data for each in new])
        rows = file_saving.new_files(new, stored)
        check()
        uids = {id(each): row for each, row in zip(new, rows, strict=True)}

        def insert_members(connection: Connection) -> Sequence[RecordRow]:
            members = [uids[id(each)].uid if id(each) in uids else str(each.uid) for each in files]
            places = [(facts.token, uid, place) for place, uid in enumerate(members)]
            record_rows.insert_members(connection, places)
            return _existing(connection, members)

        members = file_inserts.insert_files(lake, rows, insert_members, facts.token)
        try:
            facts = facts.with_hash(hash_of_files([str(each["hash"]) for each in members]))
            write = partial(_write, lake, members, facts)
            record = save_content(dataset, facts.hash, DATASET_KIND, write, partial(_is_whole, lake))
        except BaseException:
            file_inserts.drop_pending(lake, facts.token)
            raise
    is_written = facts_of(record).get("token") == facts.token
    if not is_written:
        file_inserts.drop_pending(lake, facts.token)
    _adopt(lake, files, [str(each["uid"]) for each in members] if is_written else _uids_of(lake, record))
    return record


def _existing(connection: Connection, uids: Sequence[str]) -> Sequence[RecordRow]:
    """Returns the rows of the files of a list.

    Raises:
        RecordNotFoundError: some of them were deleted for good.
    """
    members = record_rows.rows_of_uids(connection, uids)
    present = {row["uid"] for row in members if row["presence"] != Presence.GONE}
    lost = [uid for uid in dict.fromkeys(uids) if uid not in present]
    if lost:
        raise RecordNotFoundError(f"the files {quoted_list(lost)} were deleted for good. Nothing was saved")
    return members


def _uids_of(lake: Lake, row: RecordRow) -> list[str]:
    with reading(is_run_input=False):
        return member_uids(lake, row)


def _is_whole(lake: Lake, row: RecordRow) -> bool:
    """Returns whether the records of all files of a list exist."""
    uids = list(dict.fromkeys(_uids_of(lake, row)))
    return len(record_rows.find_rows(lake, uids)) == len(uids)


def _write(lake: Lake, members: Sequence[RecordRow], facts: VersionFacts) -> WrittenVersion:
    return write_rows(lake, _rows_of(lake, members), facts, {"file": FILE.name})


def _rows_of(lake: Lake, members: Sequence[RecordRow]) -> Rows:
    columns: dict[str, Any] = {
        name: [row[name] for row in members] for name in ("uid", "key", "suffix", "sha256", "size")
    }
    columns["ordinal"] = list(range(len(members)))
    columns["file"] = [handle_of(lake, row) for row in members]
    return Rows.from_dict({name: columns[name] for name in LIST_COLUMNS})


def _adopt(lake: Lake, files: Sequence[File], uids: Sequence[str]) -> None:
    """Makes new files the members of these uids: those that were written, or those of a list that was known."""
    new = {uid for file, uid in zip(files, uids, strict=True) if file._row is None}
    rows = {row["uid"]: row for row in record_rows.find_rows(lake, sorted(new))} if new else {}
    for file, uid in zip(files, uids, strict=True):
        if file._row is None:
            file._row, file._values = rows[uid], {}
