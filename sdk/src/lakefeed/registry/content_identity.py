"""Equal contents are one record: hashes of data, and the record that a content has or gets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import pyarrow as pa

from lakefeed.catalog.lake import Lake
from lakefeed.dataset import Dataset as Rows
from lakefeed.dataset.core import plan_of
from lakefeed.records.claims import hold_claim
from lakefeed.records.content_hash import hash_list, hash_rows, hash_tree
from lakefeed.records.record_registry import Registry
from lakefeed.registry import record_rows
from lakefeed.registry.record_rows import RecordRow
from lakefeed.registry.table_writes import WrittenVersion
from lakefeed.run.local_runner import LocalRunner
from lakefeed.trees.tree_rows import TreeRows

if TYPE_CHECKING:
    from lakefeed.registry.dataset_records import Dataset

logger = logging.getLogger(__name__)


def hash_of_rows(lake: Lake, rows: Rows) -> str:
    """Returns the hash of rows, which are read once."""
    with closing(LocalRunner(lake.settings).batches(plan_of(rows, "Dataset"))) as batches:
        return hash_rows(rows.schema, batches)


def hash_of_folder(rows: TreeRows, meta: pa.Table | None) -> str:
    """Returns the hash of a folder: of its paths, contents and executable bits, and of the metadata of its files.

    A file elsewhere counts by its URL and tag.
    """
    contents = zip(rows.path_list, *(each.to_pylist() for each in rows.contents), strict=True)
    files = ((path, sha256 or f"{url} {etag}", executable) for path, sha256, url, etag, executable in contents)
    own = hash_tree(files)
    return own if meta is None else hash_list([own, hash_rows(meta.schema, meta.to_batches())])


def hash_of_files(hashes: Sequence[str]) -> str:
    """Returns the hash of files, by their hashes in order."""
    return hash_list(hashes)


def save_content(
    dataset: Dataset,
    hash: str,
    kind: str,
    write: Callable[[], WrittenVersion],
    is_whole: Callable[[RecordRow], bool] = lambda row: True,
) -> RecordRow:
    """Returns the record of a content: a live record, or that of the version that ``write`` makes.

    Of several processes that save one content at once, one writes it. A record that is not whole is left alone.
    """
    lake = dataset._record_lake
    registry = Registry.open(lake)
    if dataset._allow_duplicate:
        written = write()
        return registry.add_version(written.dataset, written.row)
    with hold_claim(registry, hash, kind, lambda connection: record_rows.find_live(connection, hash, kind)) as claim:
        row: RecordRow | None = next(filter(is_whole, claim.known), None)
        if row is None:
            written = write()
            return claim.end_with(written.dataset, written.row)  # others see it when the claim ends
    logger.info("%r has the content of the record %s, which it becomes", dataset, row["uid"])
    return row
