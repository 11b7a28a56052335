"""Datasets are saved: contents first, then rows, facts and record in one commit."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from lakefeed.catalog.lake import Lake
from lakefeed.catalog.version_uids import STEM_CHARACTERS
from lakefeed.errors import RecordNotFoundError, TypeMismatchError, UnsavedDatasetError
from lakefeed.records.record_tables import Presence
from lakefeed.records.version_rows import DATASET_KIND, FILES_FORM, TREE_KIND
from lakefeed.registry import record_rows
from lakefeed.registry.content_identity import hash_of_folder, hash_of_rows, save_content
from lakefeed.registry.data_kinds import AnnotatedData, FilesData, LocalData, RemoteData, TableData
from lakefeed.registry.dataset_access import form_of, name_of
from lakefeed.registry.list_writes import save_list
from lakefeed.registry.record_rows import RecordRow
from lakefeed.registry.table_writes import write_rows
from lakefeed.registry.tree_writes import TreeWrite, match_metadata, store_folder
from lakefeed.registry.version_facts import VersionFacts
from lakefeed.run.write_context import content_saving

if TYPE_CHECKING:
    from lakefeed.registry.dataset_records import Dataset

logger = logging.getLogger(__name__)

FORMS: Final = {"table": "table", "tree": "folder", FILES_FORM: "list of files"}
"""The forms of data, as messages name them."""


def new_token() -> str:
    """Returns a text that was never used, which marks the version that a `Dataset` makes."""
    return uuid.uuid4().hex


def save_dataset(dataset: Dataset) -> None:
    """Saves a dataset, or makes it the record of its content."""
    lake, data = dataset._record_lake, dataset._data
    match data:
        case TableData():
            row = _save_table(lake, dataset, data)
        case FilesData():
            row = save_list(dataset, data.files, facts_of_new(dataset, FILES_FORM))
        case AnnotatedData():
            row = _save_file(dataset, data.value)
        case LocalData() | RemoteData():
            row = _save_folder(lake, dataset, data) if data.is_folder else _save_file(dataset, _location(data))
    dataset._row, dataset._values = row, {}


def _location(data: LocalData | RemoteData) -> str:
    return data.path if isinstance(data, LocalData) else data.url


def _save_file(dataset: Dataset, value: Any) -> RecordRow:
    """Saves one file and the dataset that consists of it."""
    from lakefeed.registry.file_records import File

    file = File(value, run=dataset._run_id, description=dataset._values["description"])
    return save_list(dataset, (file,), facts_of_new(dataset, FILES_FORM))


def facts_of_new(dataset: Dataset, form: str) -> VersionFacts:
    """Returns the facts of the version that a dataset will be.

    Raises:
        UnsavedDatasetError: the dataset whose next version it is, is not saved yet.
    """
    former, values = dataset._former, dataset._values
    if former is not None and former._row is None:
        raise UnsavedDatasetError(f"is_new_version_of: {former!r} is not saved yet; call save() of it first")
    chain = [] if former is None else record_rows.find_chain(dataset._record_lake, str(former.uid)[:STEM_CHARACTERS])
    newest = None if former is None else _newest_of(chain, former, form)
    return VersionFacts(
        name=values["name"],
        token=dataset._token,
        description=values["description"],
        reference=values["reference"],
        reference_type=values["reference_type"],
        labels=dataset._new_labels,
        feature_sets=dataset._new_feature_sets,
        label=values["version"],
        run=dataset._run_id,
        form=form,
        used=[str(row["label"] or row["revision"]) for row in reversed(chain)],
        dataset=None if newest is None else name_of(dataset._record_lake, newest),
    )


def _newest_of(chain: Sequence[RecordRow], former: Dataset, form: str) -> RecordRow:
    """Returns the newest row of a chain. A warning says that the former version is not the newest.

    Raises:
        TypeMismatchError: the data of the chain are of another form.
        RecordNotFoundError: all versions of the chain were deleted.
    """
    rows = [row for row in chain if row["presence"] != Presence.GONE]
    if not rows:
        raise RecordNotFoundError(f"is_new_version_of: all versions of the chain of {former!r} were deleted")
    newest = rows[-1]
    if form_of(newest) != form:
        raise TypeMismatchError(
            f"is_new_version_of: {former!r} is a {FORMS[form_of(newest)]}, and the data are a {FORMS[form]}; save "
            "them as a new dataset"
        )
    if newest["uid"] != former.uid:
        logger.warning(
            "is_new_version_of: %r is not the newest version of its chain; the new version comes after version %s",
            former,
            newest["label"],
        )
    return newest


def _save_table(lake: Lake, dataset: Dataset, data: TableData) -> RecordRow:
    rows = data.rows()
    facts = replace(facts_of_new(dataset, "table"), hash=hash_of_rows(lake, rows), index=data.index)
    return save_content(dataset, facts.hash, DATASET_KIND, lambda: write_rows(lake, rows, facts))


def _save_folder(lake: Lake, dataset: Dataset, data: LocalData | RemoteData) -> RecordRow:
    facts = facts_of_new(dataset, "tree")
    with content_saving(lake) as (writer, _):
        rows = store_folder(lake, writer, data)
        meta = match_metadata(rows, dataset._meta)
        facts = facts.with_hash(hash_of_folder(rows, meta))
        return save_content(dataset, facts.hash, TREE_KIND, TreeWrite(lake, rows, facts, meta).commit)
