"""Runs whose processes are gone, of this machine and of others."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select, update

from lakefeed import Dataset, lineage, track
from lakefeed.catalog.registry_database import RegistryDatabase
from lakefeed.errors import CatalogUnavailableError
from lakefeed.records import lost_runs
from lakefeed.records.record_registry import Registry
from lakefeed.records.record_tables import PROCESS, RUN
from lakefeed.records.version_rows import run_uid
from lakefeed.storage.disk.process_identity import ProcessIdentity


def states(registry: Registry) -> dict[str, str]:
    return {str(run.external): run.status for run in registry.runs.all()}


def test_a_run_of_another_machine_is_lost_after_a_week_without_a_sign(home: Path) -> None:
    Dataset.from_dict({"x": [1]}).save("a")
    registry = Registry.open()
    with track(run_id="own") as run:
        run._recorder.flush()
        with registry.write() as connection:
            lost_runs.write_process(connection, run_uid("own"), ProcessIdentity("other", 1, 2), "h", runs=True)
            connection.execute(RUN.insert().values(uid="r", external="far", status="running", created=1))
            lost_runs.write_process(connection, "r", ProcessIdentity("other", 3, 4), "h", runs=True)
        assert states(registry) == {"own": "running", "far": "running"}
        with registry.write() as connection:
            old = int(time.time() * 1000) - lost_runs.SILENT_MS - 1
            connection.execute(update(PROCESS).where(PROCESS.c.machine == "other").values(at=old))
        assert states(registry) == {"own": "running", "far": "lost"}
        gone = dataclasses.replace(ProcessIdentity.own(), began=1)
        with registry.write() as connection:
            connection.execute(PROCESS.delete())
            lost_runs.write_process(connection, run_uid("own"), gone, "h", runs=True)
        assert states(registry)["own"] == "lost"
        Dataset("a").to_arrow()  # it is alive after all
        run._recorder.flush()
        assert states(registry)["own"] == "running"
        assert lineage(run).nodes[0].state == "running"
    assert states(registry) == {"own": "completed", "far": "lost"}
    with registry.read() as connection:
        assert connection.execute(select(PROCESS)).all() == []


@contextmanager
def refuse(_: object) -> Iterator[None]:
    raise CatalogUnavailableError("attempt to write a readonly database")
    yield


def test_a_database_that_cannot_be_written_is_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry.open()
    with registry.write() as connection:
        connection.execute(RUN.insert().values(uid="r", external="x", status="running", created=1))
        gone = dataclasses.replace(ProcessIdentity.own(), began=1)
        lost_runs.write_process(connection, "r", gone, "h", runs=True)
    with monkeypatch.context() as patched:
        patched.setattr(RegistryDatabase, "write", refuse)
        assert states(registry) == {"x": "running"}
    assert states(registry) == {"x": "lost"}
