"""The newest version of each dataset, for lists of datasets.

A list of an embedded lake needs one query and the metadata files, which are read without PyIceberg. What they tell is
stored in the cache folder by the location of the file, which each commit changes. So a list of many datasets reads only
those that have changed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from lakefeed.catalog import schema, table_listing, version_tags, versions
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.snapshot_facts import TableFacts
from lakefeed.errors import DatasetNotFoundError, FileError
from lakefeed.storage.disk.atomic_write import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from pyiceberg.table import Table

logger = logging.getLogger(__name__)

FORMAT: Final = 1
DIGEST_BYTES: Final = hashlib.sha256().digest_size


@dataclass(frozen=True)
class DatasetSummary:
    """The newest version of a dataset.

    Attributes:
        version: the number; None if nothing was written to the dataset yet.
        rows: the number of rows.
        bytes: the size of its data files.
        file_types: the media types of the file columns of the dataset, sorted.
        timestamp_ms: the time of the commit, in milliseconds since 1970 (UTC).
        user: who wrote the version.
        tags: the tags of the dataset, sorted.
        label: the label of a version of a file tree.
    """

    version: int | None
    rows: int
    bytes: int
    file_types: tuple[str, ...]
    timestamp_ms: int | None
    user: str | None
    tags: tuple[str, ...]
    label: str | None


def summarize(lake: Lake, names: Iterable[str]) -> Iterator[tuple[str, DatasetSummary | FileError]]:
    """Yields a summary of each dataset, or the error if its metadata cannot be read. Skips datasets that are deleted.

    Raises:
        CatalogUnavailableError: the catalog cannot be reached.
    """
    locations = table_listing.locations(lake)
    chosen = list(names)
    known = {} if locations is None else _read_each(lake, chosen, locations)
    others = dict(_load_each(lake, [name for name in chosen if name not in known]))
    summaries = {**others, **known}
    yield from ((name, summaries[name]) for name in chosen if name in summaries)


def _read_each(lake: Lake, names: Iterable[str], locations: Mapping[str, str]) -> dict[str, DatasetSummary]:
    """Returns the summaries that metadata files tell without PyIceberg."""
    stored = _StoredSummaries.load(lake)
    summaries: dict[str, DatasetSummary] = {}
    for name in names:
        location = locations.get(name)
        summary = None if location is None else stored.find(location) or stored.read(location)
        if summary is not None:
            summaries[name] = summary
    stored.save(locations.values())
    return summaries


def _load_each(lake: Lake, names: Iterable[str]) -> Iterator[tuple[str, DatasetSummary | FileError]]:
    from lakefeed.catalog.damaged_tables import damage_errors  # it imports PyIceberg

    for name in names:
        try:
            with damage_errors(name):  # an entry of its metadata may be no number
                summary = _summary_of_table(lake.table(name))
        except DatasetNotFoundError:
            continue  # deleted since the list was made
        except FileError as error:
            yield name, error
        else:
            yield name, summary


def _summary_of_table(table: Table) -> DatasetSummary:
    types = schema.media_of(schema.declared_schema(table))
    newest = None if table.metadata.current_snapshot_id is None else versions.resolve(table)
    return _summary(newest, types, version_tags.tags(table))


def _summary_of_facts(facts: TableFacts) -> DatasetSummary | None:
    if facts.file_types is None:
        return None
    return _summary(facts.versions[0].entry if facts.versions else None, facts.file_types, facts.tags)


def _summary(
    newest: versions.DatasetVersion | None, types: Mapping[str, str], tags: Mapping[str, int]
) -> DatasetSummary:
    file_types, names = tuple(sorted(set(types.values()))), tuple(sorted(tags))
    if newest is None:
        return DatasetSummary(None, 0, 0, file_types, None, None, names, None)
    return DatasetSummary(
        version=newest.version,
        rows=newest.total_records,
        bytes=newest.total_bytes,
        file_types=file_types,
        timestamp_ms=newest.timestamp_ms,
        user=newest.user,
        tags=names,
        label=newest.label,
    )


class _StoredSummaries:
    """The summaries in the cache folder, by the location of the metadata file, with the state of that file."""

    def __init__(self, lake: Lake, path: Path, entries: dict[str, Any]) -> None:
        self._lake, self._path, self._entries = lake, path, entries
        self._changed = False

    @classmethod
    def load(cls, lake: Lake) -> _StoredSummaries:
        """Returns the summaries of a lake. Those that are missing or damaged are made anew."""
        name = hashlib.sha256(f"{FORMAT} {lake.settings.catalog_uri}".encode()).hexdigest()
        path = lake.settings.cache / "summaries" / name
        try:
            data = path.read_bytes()
        except OSError:
            data = b""
        digest, body = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
        return cls(lake, path, json.loads(body) if data and hashlib.sha256(body).digest() == digest else {})

    def find(self, location: str) -> DatasetSummary | None:
        """Returns a summary; None if there is none, or the file has changed or is missing."""
        state, values = self._entries.get(location, (None, {}))
        if state is None or tuple(state) != table_listing.file_state(self._lake, location):
            return None
        return DatasetSummary(**{**values, "file_types": tuple(values["file_types"]), "tags": tuple(values["tags"])})

    def read(self, location: str) -> DatasetSummary | None:
        """Reads a metadata file, and adds and returns its summary; None if the table has to be loaded."""
        state, facts = table_listing.file_state(self._lake, location), table_listing.facts_at(self._lake, location)
        summary = None if facts is None else _summary_of_facts(facts)
        if summary is not None and state is not None:
            self._entries[location] = state, asdict(summary)
            self._changed = True
        return summary

    def save(self, current: Iterable[str]) -> None:
        """Stores the summaries of current metadata files, if some are new.

        A cache that cannot be written costs time only.
        """
        if not self._changed:
            return
        locations = sorted(self._entries.keys() & set(current))
        body = json.dumps({location: self._entries[location] for location in locations}).encode()
        now = time.time_ns()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            data = hashlib.sha256(body).digest() + body
            write_atomically(str(self._path), data, str(self._lake.settings.cache / "tmp"), (now, now))
        except OSError as error:
            logger.info("cannot store the summaries of datasets: %s", error)
