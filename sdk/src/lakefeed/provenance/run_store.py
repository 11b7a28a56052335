"""Runs in the registry, as their processes write them.

A run is found by its id, the text in the commits of its versions; its uid is a function of that. Several processes may
write one run: each adds its inputs, and the last end counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Table, select, update

from lakefeed.catalog.current_run import VersionRead
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.running_code import RunningCode
from lakefeed.catalog.version_uids import STEM_CHARACTERS, random_uid, revision_uid, text_uid
from lakefeed.provenance.registry_facts import FileFact
from lakefeed.provenance.run_record import RunRecord, RunStatus, now_ms
from lakefeed.records.inserts import insert_new
from lakefeed.records.lost_runs import write_process
from lakefeed.records.record_registry import Registry
from lakefeed.records.record_tables import FACT, INPUT, RECORD, RUN, TRANSFORM, USER
from lakefeed.records.version_rows import FILE_KIND, run_uid
from lakefeed.run.write_context import content_saving

SOURCE_FACT: Final = "source"
CODE_KIND: Final = "code"


def transform_uid(code: RunningCode) -> str:
    """Returns the uid of a version of code."""
    return text_uid(f"{_transform_key(code)}\0{_transform_version(code)}")


def _transform_key(code: RunningCode) -> str:
    return code.path if code.path is not None and code.kind != "function" else code.name


def _transform_version(code: RunningCode) -> str:
    """Returns the version of code: the digest of its source, and the commit."""
    return code.text.removeprefix(code.name).strip()


def write_run(lake: Lake, record: RunRecord, environment: Mapping[str, Any], reads: Sequence[VersionRead]) -> None:
    """Writes a run, its code and the versions that it has read. To write it again changes what differs.

    Raises:
        CatalogUnavailableError: the database of the registry cannot be used.
        FileError: the source of the code cannot be stored.
    """
    registry, code, now = Registry.open(lake), record.code, now_ms()
    with registry.write() as connection:
        merge(connection, USER, {"name": record.user}, {"created": now}, change=False)
        merge(connection, TRANSFORM, {"uid": transform_uid(code)}, _transform_row(record, now), change=False)
        merge(connection, RUN, {"uid": run_uid(record.id)}, _run_row(record, environment, now))
        is_running = record.status == RunStatus.RUNNING
        write_process(connection, run_uid(record.id), record.process, record.host, runs=is_running)
        _write_inputs(connection, record, reads)
        needs_source = code.source is not None and not _has_fact(connection, transform_uid(code))
    if needs_source:
        _store_source(lake, registry, code, now)


def write_inputs(lake: Lake, record: RunRecord, reads: Sequence[VersionRead]) -> None:
    """Writes versions that a process has read in a run that another one began.

    Raises:
        CatalogUnavailableError: the database of the registry cannot be used.
    """
    with Registry.open(lake).write() as connection:
        _write_inputs(connection, record, reads)


def _write_inputs(connection: Connection, record: RunRecord, reads: Sequence[VersionRead]) -> None:
    for read in reads:
        row = {"from_revision": read.since, "plan": read.plan, "seed": read.seed, "epoch": read.epoch}
        merge(connection, INPUT, {"run": run_uid(record.id), "record": read.uid}, {**row, "at": read.at})


def _transform_row(record: RunRecord, now: int) -> dict[str, Any]:
    code = record.code
    facts = {"path": code.path, "commit": code.commit, "dirty": code.dirty}
    return {
        "key": _transform_key(code),
        "version": _transform_version(code),
        "kind": code.kind,
        "name": code.name,
        "code_sha256": code.sha256,
        "code_json": json.dumps({name: value for name, value in facts.items() if value is not None}),
        "user": record.user,
        "created": now,
        "updated": now,
    }


def _run_row(record: RunRecord, environment: Mapping[str, Any], now: int) -> dict[str, Any]:
    row = {
        "external": record.id,
        "name": record.name,
        "transform": transform_uid(record.code),
        "status": str(record.status),
        "params_json": json.dumps(record.params),
        "facts_json": json.dumps({**record.facts(), **environment}),
        "user": record.user,
        "parent": None if record.parent is None else run_uid(record.parent),
        "started": record.started,
        "created": now,
    }
    return {**row, "finished": record.finished}


def _has_fact(connection: Connection, transform: str) -> bool:
    known = select(FACT.c.record).where(FACT.c.record == transform, FACT.c.name == SOURCE_FACT)
    return connection.scalar(known) is not None


def _store_source(lake: Lake, registry: Registry, code: RunningCode, now: int) -> None:
    """Stores the source of code once, and registers it, so that garbage collections keep it."""
    assert code.source is not None
    with content_saving(lake) as (writer, check):
        blob = writer.put(code.source)
        writer.flush()
        check()
        with registry.write() as connection:
            key = {"record": transform_uid(code), "name": SOURCE_FACT}
            merge(connection, FACT, key, {"kind": CODE_KIND, "sha256": blob.sha256, "at": now}, change=False)


def add_file(connection: Connection, record: RunRecord, name: str, key: str, sha256: str, size: int) -> FileFact:
    """Registers a file of a run, whose content is stored already. The same file of a run is registered once."""
    of_run = (RECORD.c.kind == FILE_KIND, RECORD.c.run == run_uid(record.id))
    same = select(RECORD.c.uid, RECORD.c.created).where(*of_run, RECORD.c.sha256 == sha256, RECORD.c.key == key)
    known = connection.execute(same).first()
    if known is not None:
        return FileFact(str(known.uid), name, sha256, size, record.id, int(known.created))
    stem, now = random_uid(STEM_CHARACTERS), now_ms()
    uid = revision_uid(stem, 1)
    row = {
        "stem": stem,
        "revision": 1,
        "kind": FILE_KIND,
        "name": name,
        "hash": sha256,
        "size": size,
        "sha256": sha256,
        "suffix": "." + name.rsplit(".", 1)[1] if "." in name.strip(".") else "",
        "key": key,
        "run": run_uid(record.id),
        "user": record.user,
        "latest": True,
        "created": now,
        "updated": now,
    }
    connection.execute(RECORD.insert().values(uid=uid, **row))
    return FileFact(uid, name, sha256, size, record.id, now)


def merge(
    connection: Connection, table: Table, key: Mapping[str, Any], values: Mapping[str, Any], *, change: bool = True
) -> None:
    """Inserts a row, or changes the one that has the key. With ``change=False`` that one stays as it is."""
    columns = dict(values)
    if change:
        kept = {name: value for name, value in columns.items() if name != "created"}
        if connection.execute(update(table).where(*(table.c[n] == v for n, v in key.items())).values(**kept)).rowcount:
            return
    insert_new(connection, table, [{**key, **columns}])
