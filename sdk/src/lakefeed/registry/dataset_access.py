"""The data of saved datasets: in memory, lazily, and as local copies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lakefeed.catalog.lake import Lake
from lakefeed.catalog.version_uids import STEM_CHARACTERS, revision_of
from lakefeed.dataset.core import dataset_named
from lakefeed.errors import TypeMismatchError, quoted_list
from lakefeed.records.record_tables import RECORD, Presence
from lakefeed.records.version_rows import FILE_KIND, FILES_FORM, TREE_KIND
from lakefeed.registry import file_reads, frame_index, record_rows
from lakefeed.registry.file_loading import check_join
from lakefeed.registry.record_rows import RecordRow
from lakefeed.registry.run_inputs import reading

if TYPE_CHECKING:
    from lakefeed.arrays.mapped_cells import MappedCells
    from lakefeed.dataset import Dataset as Rows
    from lakefeed.registry.dataset_records import Dataset
    from lakefeed.registry.file_records import File
    from lakefeed.trees.file_tree import FileTree


def facts_of(row: RecordRow) -> Mapping[str, Any]:
    """Returns the facts that the commit of a version recorded; empty for one of another writer."""
    try:
        facts = json.loads(row["facts_json"] or "{}")
    except ValueError:  # of another program
        return {}
    return facts if isinstance(facts, dict) else {}


def form_of(row: RecordRow) -> str:
    """Returns the form of the data of a dataset: "table", "tree" or "files"."""
    return "tree" if row["kind"] == TREE_KIND else str(facts_of(row).get("form") or "table")


def is_files(row: RecordRow) -> bool:
    """Returns whether a dataset is a list of files."""
    return form_of(row) == FILES_FORM


def name_of(lake: Lake, row: RecordRow) -> str:
    """Returns the name of the dataset of a version, with the namespace unless it is that of the settings."""
    own = lake.settings.catalog.namespace
    return str(row["table"]) if row["namespace"] == own else f"{row['namespace']}.{row['table']}"


def rows_of(lake: Lake, row: RecordRow) -> Rows:
    """Returns a version as a `lakefeed.Dataset`, with the columns that it was saved with."""
    rows = dataset_named(lake, name_of(lake, row), row["revision"], row["table_uuid"])
    columns = facts_of(row).get("columns")
    return rows.select(columns) if columns else rows


def tree_of(lake: Lake, row: RecordRow) -> FileTree | None:
    """Returns a version as a file tree; None if it is not one."""
    from lakefeed.trees.file_tree import FileTree

    if row["kind"] != TREE_KIND:
        return None
    return FileTree.get(f"{row['namespace']}.{row['table']}@{row['tree_id'] or 'v' + str(row['revision'])}")


def member_uids(lake: Lake, row: RecordRow) -> list[str]:
    """Returns the uids of the files of a dataset, in order; none for a table or a folder."""
    if not is_files(row):
        return []
    table = rows_of(lake, row).select(["ordinal", "uid"]).to_arrow().sort_by("ordinal")
    return [str(uid) for uid in table["uid"].to_pylist()]


def files_of(dataset: Dataset) -> list[File]:
    """Returns the files of a dataset, in order."""
    from lakefeed.registry.data_kinds import FilesData
    from lakefeed.registry.file_records import File

    if dataset._row is None:
        return list(dataset._data.files) if isinstance(dataset._data, FilesData) else []
    with reading(is_run_input=False):
        return [File._of_row(dataset._record_lake, row) for row in _member_rows(dataset)]


def _member_rows(dataset: Dataset) -> Sequence[RecordRow]:
    row = dataset._current_row("files")
    lake = dataset._record_lake
    uids = member_uids(lake, row)
    known = {each["uid"]: each for each in record_rows.find_rows(lake, list(dict.fromkeys(uids)))}
    if len(known) < len(set(uids)):
        known = _listed_rows(lake, row) | known
    return [known[uid] for uid in uids]


def _listed_rows(lake: Lake, row: RecordRow) -> dict[str, RecordRow]:
    """Returns rows for the files of a list whose records are lost or were deleted: what the list itself has of them."""
    none = {column.name: None for column in RECORD.c}
    rows: dict[str, RecordRow] = {}
    for each in rows_of(lake, row).to_arrow().to_pylist():
        uid = str(each["uid"])
        facts = {name: each[name] for name in ("uid", "key", "suffix", "sha256", "size")}
        own = {
            "kind": FILE_KIND,
            "presence": int(Presence.GONE),
            "stem": uid[:STEM_CHARACTERS],
            "revision": revision_of(uid),
        }
        rows[uid] = {**none, **own, **facts, "url": each["file"]["url"]}
    return rows


def load(dataset: Dataset, join: Any, is_run_input: Any, max_bytes: int | None, options: Mapping[str, Any]) -> Any:
    """Returns the data of a dataset in memory; see `Dataset.load`."""
    row, lake = dataset._current_row("load"), dataset._record_lake
    check_join(join)
    with reading(is_run_input):
        if is_files(row):
            return file_reads.load(lake, _member_rows(dataset), join, max_bytes, options)
        budget = file_reads.budget_of(lake, max_bytes)
        frame = rows_of(lake, row).collect(max_bytes=budget, warn=False).to_pandas()
        return frame_index.restore_index(frame, facts_of(row).get("index"))


def backed(dataset: Dataset, is_run_input: Any) -> Any:
    """Returns lazy access to a dataset; see `Dataset.backed`."""
    row = dataset._current_row("backed")
    if not is_files(row):
        return rows_of(dataset._record_lake, row)
    with reading(is_run_input):
        members = _member_rows(dataset)
    if len(members) != 1:
        raise TypeMismatchError(
            f"backed opens one file, and {dataset!r} has {len(members)}; open each of .files, or train with mapped()"
        )
    return file_reads.backed(dataset._record_lake, members[0])


def stage(dataset: Dataset, is_run_input: Any) -> str | list[str]:
    """Returns local copies of the data of a dataset; see `Dataset.stage`."""
    row, lake = dataset._current_row("stage"), dataset._record_lake
    tree = tree_of(lake, row)
    if tree is not None:
        return str(tree.get_local_copy())
    if not is_files(row):
        raise TypeMismatchError(f"{dataset!r} is a table, which has no file to stage; use load() or .dataset")
    with reading(is_run_input):
        members = _member_rows(dataset)
    paths = [file_reads.stage(lake, each) for each in members]
    return paths[0] if len(paths) == 1 else paths


def mapped(dataset: Dataset, is_run_input: Any, options: Mapping[str, Any]) -> MappedCells:
    """Returns rows of AnnData files by index; see `Dataset.mapped`."""
    lake, row = dataset._record_lake, dataset._current_row("mapped")
    members: Sequence[RecordRow] = ()
    with reading(is_run_input):
        members = _member_rows(dataset) if is_files(row) else ()
    if not members:
        raise TypeMismatchError(
            f"mapped reads .h5ad files, and the data of {dataset!r} are not files; train on .dataset instead"
        )
    return file_reads.mapped(lake, members, options)


def rows(dataset: Dataset, is_run_input: Any, options: Mapping[str, Any]) -> Rows:
    """Returns the rows of a dataset as a `lakefeed.Dataset`; see `Dataset.rows`."""
    from lakefeed.dataset import Dataset as RowDataset

    lake, row = dataset._record_lake, dataset._current_row("rows")
    if not is_files(row):
        return rows_of(lake, row)
    with reading(is_run_input):
        members = _member_rows(dataset)
    suffixes = {str(each["suffix"]) for each in members}
    if len({each["uid"] for each in members}) < len(members) or len(suffixes) > 1:
        raise TypeMismatchError(
            f"rows reads different files of one suffix; those of {dataset!r} have {quoted_list(sorted(suffixes))}, or "
            "one occurs twice. Read each of .files by itself"
        )
    paths = [file_reads.stage(lake, each) for each in members]
    if suffixes == {".h5ad"}:
        return RowDataset.from_anndata(paths, **options)
    return RowDataset.from_file(paths)
