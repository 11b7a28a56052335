"""`lineage`: what something was made of, and what was made of it."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lakefeed._validate import check_whole
from lakefeed._variables import did_you_mean
from lakefeed.catalog import versions
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.version_numbers import number_of_snapshot
from lakefeed.catalog.versions import DatasetVersion
from lakefeed.dataset import lake_of, plan_of
from lakefeed.dataset.core import Core
from lakefeed.errors import CatalogUnavailableError, DatasetNotFoundError, FileError, InvalidArgumentError, quoted_list
from lakefeed.plan import lineage as plan_lineage
from lakefeed.provenance import column_origins, lake_facts, run_store, tracked_run
from lakefeed.provenance.event_transport import lake_namespace
from lakefeed.provenance.lineage_graph import Lineage
from lakefeed.provenance.lineage_walk import LineageWalk
from lakefeed.provenance.origin_index import FileKey, OriginIndex, RunKey, VersionKey
from lakefeed.provenance.run_store import RegistryFacts
from lakefeed.provenance.tracked_files import LoggedFile
from lakefeed.provenance.tracked_run import Run
from lakefeed.storage.disk.hashing import sha256_stream

logger = logging.getLogger(__name__)

Key = VersionKey | FileKey | RunKey


def lineage(x: Any, up: int | None = None, down: int | None = None) -> Lineage:
    """Returns what something was made of, and what was made of it: versions, runs, their code, and files.

    The commits of the lake say it, for versions of every writer, and the registry has the runs and their files.
    Datasets that were renamed have their new names; deleted ones and expired versions stay in the graph.

    Args:
        x: a dataset, or the name of one (the newest version, or all versions of a deleted one); ``"photos@7"`` or
            ``"photos@stable"``; a version as `Dataset.list_versions` returns it; a `Run`, or the id of one; a file as
            `Run.log_file` returns it, or the path of one that was registered, which is found by its content. Of a
            dataset that is derived from others, it is the lineage of those. ``"photos.width"`` is a column, as far as
            the commits of routines say what it is made of.
        up: the most steps towards what it was made of. 0 is none, None is all.
        down: the most steps towards what was made of it. 0 is none, None is all.

    Raises:
        DatasetNotFoundError: nothing of that name is known.
        VersionNotFoundError: the dataset has no such version.
        InvalidArgumentError: an argument is malformed.

    Example:
        >>> _ = Dataset.from_dict({"x": [1, 2, 3]}).save("numbers")
        >>> with track("doubling"):
        ...     _ = Dataset("numbers").with_column("y", "x * 2").save("doubles")
        >>> [node.label for node in lineage("doubles", down=0).nodes if node.kind in ("version", "run")]
        ['doubles v1', 'doubling', 'numbers v1']
    """
    most_up = None if up is None else check_whole(up, "up")
    most_down = None if down is None else check_whole(down, "down")
    lake = lake_of(x) if isinstance(x, Core) else Lake.current()
    return Lineages.read(lake).of(x, most_up, most_down)


@dataclass(frozen=True)
class Lineages:
    """The lineages in a lake as it was when they were read, for several questions."""

    lake: Lake
    index: OriginIndex

    @classmethod
    def read(cls, lake: Lake | None = None) -> Lineages:
        """Reads what is new in the lake (None: the current one) and its registry."""
        lake = Lake.current() if lake is None else lake
        tracked_run.flush_all()
        tables = lake_facts.read_tables(lake)
        return cls(lake, OriginIndex(tables, _registry_facts(lake, tables)))

    def of(self, x: Any, up: int | None = None, down: int | None = None) -> Lineage:
        """Returns the lineage of something, as `lineage` does."""
        column = column_origins.find_column(self.index, x) if isinstance(x, str) else None
        if column is not None:
            graph = column_origins.ColumnWalk(self.index).lineage(column, up, down)
        else:
            graph = LineageWalk(self.index).lineage(_keys(self.lake, self.index, x), up, down)
        return replace(graph, namespace=lake_namespace(self.lake))


def _registry_facts(lake: Lake, tables: Any) -> RegistryFacts:
    try:
        return run_store.read_facts(lake, tables)
    except (CatalogUnavailableError, FileError) as error:
        logger.warning("%s; the lineage has what the commits say", error)
        return RegistryFacts()


def _keys(lake: Lake, index: OriginIndex, x: Any) -> list[Key]:
    """Returns the keys of what a caller means."""
    if isinstance(x, VersionKey):
        return [x]
    if isinstance(x, Run):
        return [RunKey(lake_facts.canonical_run(x.id) or x.id)]
    if isinstance(x, LoggedFile):
        return [FileKey(x.uid)]
    if isinstance(x, DatasetVersion) and x.table_uuid:
        return [VersionKey(x.table_uuid, x.version)]
    if isinstance(x, Core):
        origins = plan_lineage(plan_of(x, "lineage")).origins
        if not origins:
            raise InvalidArgumentError(
                "these rows come from no dataset of the lake, so they have no lineage; save them"
            )
        return [VersionKey(each.table_uuid, each.version) for each in origins]
    dataset = getattr(x, "dataset", None)
    if isinstance(dataset, Core):  # a file tree
        return _keys(lake, index, dataset)
    if isinstance(x, os.PathLike):
        return _keys_of_file(index, Path(x))
    if isinstance(x, str) and x:
        return _keys_of_text(lake, index, x)
    raise InvalidArgumentError(f"lineage takes a dataset, its name, a version, a run or a file, got {x!r:.80}")


def _keys_of_text(lake: Lake, index: OriginIndex, text: str) -> list[Key]:
    name, at, pin = text.partition("@")
    tables = [index.tables[uuid] for uuid in index.names.get(name, ())]
    present = [each for each in tables if each.state == "present" and each.name == name]
    if present:
        table = lake.table(name)
        snapshot = versions.find_snapshot(table, _pin(pin)) if at else table.current_snapshot()
        if snapshot is None:
            raise DatasetNotFoundError(f"dataset {name!r} has no version yet, so it has no lineage")
        number = number_of_snapshot(table, snapshot.snapshot_id)
        return [VersionKey(present[0].uuid, number or 0)]
    if tables:
        numbers = {each.uuid: _numbers(index, each.uuid) for each in tables}
        chosen = _pin(pin) if at else None
        keys = [VersionKey(uuid, n) for uuid, every in numbers.items() for n in every if chosen in (None, n)]
        if keys:
            return list(keys)
    run = lake_facts.canonical_run(text)
    if run in set(index.runs()):
        return [RunKey(str(run))]
    if text in index.registry.files:
        return [FileKey(text)]
    path = Path(text)
    if _is_file(path):
        return _keys_of_file(index, path)
    files = [each for each in index.registry.files.values() if each.name == text]
    if files:
        return [FileKey(each.uid) for each in files]
    names = sorted({each.name for each in index.tables.values() if each.state == "present"})
    near = did_you_mean([name], names)
    raise DatasetNotFoundError(
        f"no dataset, run or registered file {text!r:.200}; the datasets are {quoted_list(names)}.{near}"
    )


def _numbers(index: OriginIndex, table: str) -> list[int]:
    """Returns the versions of a dataset that is not in the catalog any more, as far as anything names them."""
    known = {key.number for key in index.mentioned if key.table == table}
    return sorted({*index.tables[table].versions, *known}, reverse=True)


def _pin(text: str) -> int | str:
    digits = text.removeprefix("v")
    return int(digits) if digits.isdecimal() else text


def _keys_of_file(index: OriginIndex, path: Path) -> list[Key]:
    if not _is_file(path):
        raise DatasetNotFoundError(f"no file {str(path)!r}")
    with path.open("rb") as stream:
        digest, _ = sha256_stream(stream)
    keys: list[Key] = [FileKey(each.uid) for each in index.registry.files.values() if each.sha256 == digest]
    if not keys:
        raise DatasetNotFoundError(f"no run has registered the content of {str(path)!r}; register it with Run.log_file")
    return keys


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # it is too long, or below what may not be read
        return False
