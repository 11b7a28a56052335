"""Lists of files as datasets: a row for each file, in order."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from lakefeed.catalog.lake import Lake
from lakefeed.dataset import Dataset as Rows
from lakefeed.errors import RecordNotFoundError, quoted_list
from lakefeed.media.file import FILE
from lakefeed.records.record_tables import Presence
from lakefeed.records.version_rows import DATASET_KIND
from lakefeed.registry import file_inserts, file_saving, record_rows
from lakefeed.registry.content_identity import hash_of_files, save_content
from lakefeed.registry.dataset_access import member_uids
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
        file_inserts.insert_files(lake, rows, facts.token)
        try:
            uids = {id(each): row.uid for each, row in zip(new, rows, strict=True)}
            members = _members(lake, [uids.get(id(each)) or str(each.uid) for each in files])
            facts = facts.with_hash(hash_of_files([str(each["hash"]) for each in members]))
            record = save_content(
                dataset, facts.hash, DATASET_KIND, lambda: _write(lake, members, facts), partial(_is_whole, lake)
            )
        except BaseException:
            file_inserts.drop_pending(lake, facts.token)
            raise
    file_inserts.drop_pending(lake, facts.token)  # nothing if the list was written, and its commit was seen
    _adopt(dataset, files, record)
    return record


def _members(lake: Lake, uids: Sequence[str]) -> Sequence[RecordRow]:
    """Returns the rows of the files of a list.

    Raises:
        RecordNotFoundError: some of them were deleted for good.
    """
    members = record_rows.find_rows(lake, uids)
    present = {row["uid"] for row in members if row["presence"] != Presence.GONE}
    lost = [uid for uid in dict.fromkeys(uids) if uid not in present]
    if lost:
        raise RecordNotFoundError(f"the files {quoted_list(lost)} were deleted for good. Nothing was saved")
    return members


def _is_whole(lake: Lake, row: RecordRow) -> bool:
    """Returns whether the records of all files of a list exist."""
    with reading(is_run_input=False):
        uids = list(dict.fromkeys(member_uids(lake, row)))
    return len(record_rows.find_rows(lake, uids)) == len(uids)


def _write(lake: Lake, members: Sequence[RecordRow], facts: VersionFacts) -> WrittenVersion:
    places = [(facts.token, str(row["uid"]), place) for place, row in enumerate(members)]
    record_rows.insert_members(lake, places)
    return write_rows(lake, _rows_of(lake, members), facts, {"file": FILE.name})


def _rows_of(lake: Lake, members: Sequence[RecordRow]) -> Rows:
    columns: dict[str, Any] = {
        name: [row[name] for row in members] for name in ("uid", "key", "suffix", "sha256", "size")
    }
    columns["ordinal"] = list(range(len(members)))
    columns["file"] = [handle_of(lake, row) for row in members]
    return Rows.from_dict({name: columns[name] for name in LIST_COLUMNS})


def _adopt(dataset: Dataset, files: Sequence[File], record: RecordRow) -> None:
    """Makes new files the members of the record: those that were written, or those of a list that was known."""
    lake = dataset._record_lake
    with reading(is_run_input=False):
        uids = member_uids(lake, record)
    rows = {row["uid"]: row for row in record_rows.find_rows(lake, list(dict.fromkeys(uids)))}
    for file, member in zip(files, uids, strict=True):
        if file._row is None:
            file._row, file._values = rows[member], {}
