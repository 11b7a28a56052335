"""The dataset, version, run or file that a caller of `lineage` means, as keys of the index."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from lakefeed._variables import did_you_mean
from lakefeed.catalog import versions
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.version_numbers import number_of_snapshot
from lakefeed.catalog.versions import DatasetVersion
from lakefeed.dataset import lake_of, plan_of
from lakefeed.dataset.core import Core
from lakefeed.errors import DatasetNotFoundError, InvalidArgumentError, quoted_list
from lakefeed.plan import lineage as plan_lineage
from lakefeed.provenance.fact_loader import Roots
from lakefeed.provenance.origin_index import FileKey, OriginIndex, RunKey, VersionKey
from lakefeed.records.origin_facts import TableFact, canonical_run
from lakefeed.storage.disk.hashing import sha256_stream

Key: TypeAlias = VersionKey | FileKey | RunKey

ROUTINE_PREFIX = "routine:"


@runtime_checkable
class HasLineage(Protocol):
    """Something that stands for a dataset, version, run or file of a lake, such as a record of the registry."""

    def __lakefeed_lineage__(self) -> tuple[Any, Lake]:
        """Returns what is meant, as `lineage` takes it, and its lake."""


def lineage_subject(x: Any) -> tuple[Any, Lake]:
    """Returns the dataset, name, version or file that a caller means, and its lake.

    Raises:
        InvalidArgumentError: it is none of these.
    """
    subject, lake = x.__lakefeed_lineage__() if isinstance(x, HasLineage) else (x, None)
    dataset = getattr(subject, "dataset", None)
    if isinstance(dataset, Core):  # a file tree
        subject = dataset
    if isinstance(subject, Core):
        return subject, lake_of(subject)
    is_key = isinstance(subject, Key) or (isinstance(subject, DatasetVersion) and subject.table_uuid)
    if is_key or isinstance(subject, os.PathLike) or (isinstance(subject, str) and subject):
        return subject, Lake.current() if lake is None else lake
    raise InvalidArgumentError(f"lineage takes a dataset, its name, a version, a run or a file, got {x!r:.80}")


def roots_of(x: Any) -> Roots:
    """Returns what has to be loaded for a lineage.

    Args:
        x: what `lineage_subject` returned.

    Raises:
        InvalidArgumentError: the rows come from no dataset.
        DatasetNotFoundError: no run has a file of this path.
    """
    if isinstance(x, VersionKey):
        return Roots(tables=frozenset({x.table}))
    if isinstance(x, RunKey):
        return Roots(runs=frozenset({canonical_run(x.id) or x.id}))
    if isinstance(x, FileKey):
        return Roots(files=frozenset({x.uid}))
    if isinstance(x, DatasetVersion):
        return Roots(tables=frozenset({x.table_uuid}))
    if isinstance(x, Core):
        return Roots(tables=frozenset(key.table for key in _keys_of_plan(x)))
    if isinstance(x, os.PathLike):
        return Roots(digests=frozenset({_digest(Path(x))}))
    return _roots_of_text(str(x))


def _roots_of_text(text: str) -> Roots:
    names = {text, text.partition("@")[0], text.rpartition(".")[0]} - {""}
    parts = text.split(":")
    table = {parts[-2]} if text.startswith(ROUTINE_PREFIX) and len(parts) > 3 else set()
    digests = {_digest(Path(text))} if _is_file(Path(text)) else set()
    run = canonical_run(text) or text
    return Roots(frozenset(table), frozenset(names), frozenset({run}), frozenset({text}), frozenset(digests))


def keys_of(lake: Lake, index: OriginIndex, x: Any) -> list[Key]:
    """Returns the keys of what a caller means.

    Args:
        lake: the lake.
        index: an index with what is connected with it.
        x: what `lineage_subject` returned.
    """
    if isinstance(x, RunKey):
        return [RunKey(canonical_run(x.id) or x.id)]
    if isinstance(x, VersionKey | FileKey):
        return [x]
    if isinstance(x, DatasetVersion):
        return [VersionKey(x.table_uuid, x.version)]
    if isinstance(x, Core):
        return list(_keys_of_plan(x))
    if isinstance(x, os.PathLike):
        return _keys_of_file(index, Path(x))
    return _keys_of_text(lake, index, str(x))


def _keys_of_plan(x: Core) -> list[VersionKey]:
    origins = plan_lineage(plan_of(x, "lineage")).origins
    if not origins:
        raise InvalidArgumentError("these rows come from no dataset of the lake, so they have no lineage; save them")
    return [VersionKey(each.table_uuid, each.version) for each in origins]


def _keys_of_text(lake: Lake, index: OriginIndex, text: str) -> list[Key]:
    name, at, pin = text.partition("@")
    tables = [index.tables[uuid] for uuid in index.names.get(name, ())]
    present = sorted((each for each in tables if each.state == "present"), key=lambda each: each.name != name)
    if present:
        return [_key_of_dataset(lake, present[0], _pin(pin) if at else None)]
    if tables:
        numbers = {each.uuid: _numbers(index, each.uuid) for each in tables}
        chosen = _pin(pin) if at else None
        keys = [VersionKey(uuid, n) for uuid, every in numbers.items() for n in every if chosen in (None, n)]
        if keys:
            return list(keys)
    run = canonical_run(text)
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
    names = sorted(lake.names())
    near = did_you_mean([name], names)
    raise DatasetNotFoundError(
        f"no dataset, run or registered file {text!r:.200}; the datasets are {quoted_list(names)}.{near}"
    )


def _key_of_dataset(lake: Lake, fact: TableFact, pin: int | str | None) -> VersionKey:
    """Returns the key of the newest version of a dataset, or of that which is pinned, which may have expired."""
    newest = max((number for number, version in fact.versions.items() if not version.is_gone), default=None)
    if pin is None and newest is None:
        raise DatasetNotFoundError(f"dataset {fact.name!r} has no version yet, so it has no lineage")
    number = newest if pin is None else pin
    if isinstance(number, int) and number in fact.versions:
        return VersionKey(fact.uuid, number)
    table = lake.table(fact.name)
    snapshot = versions.find_snapshot(table, number or 0)
    return VersionKey(fact.uuid, number_of_snapshot(table, snapshot.snapshot_id) or 0)


def _numbers(index: OriginIndex, table: str) -> list[int]:
    """Returns the versions of a dataset that is not in the catalog any more, as far as anything names them."""
    known = {key.number for key in index.mentioned if key.table == table}
    return sorted({*index.tables[table].versions, *known}, reverse=True)


def _pin(text: str) -> int | str:
    digits = text.removeprefix("v")
    return int(digits) if digits.isdecimal() else text


def _keys_of_file(index: OriginIndex, path: Path) -> list[Key]:
    digest = _digest(path)
    keys: list[Key] = [FileKey(each.uid) for each in index.registry.files.values() if each.sha256 == digest]
    if not keys:
        raise DatasetNotFoundError(f"no run has registered the content of {str(path)!r}; register it with Run.log_file")
    return keys


def _digest(path: Path) -> str:
    if not _is_file(path):
        raise DatasetNotFoundError(f"no file {str(path)!r}")
    with path.open("rb") as stream:
        digest, _ = sha256_stream(stream)
    return digest


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # it is too long, or below what may not be read
        return False
