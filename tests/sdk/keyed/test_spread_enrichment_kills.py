"""Enrichments whose workers, or whose process, are killed: the same rows, one commit, and nothing is derived twice."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakefeed import Dataset, Table, udf
from tests.sdk.processes import Program

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("home")]
ROWS, A_FILE, KILLS = 240, 20, 3
ID = {"id": pa.int64()}


@pytest.fixture
def table(home: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    monkeypatch.setenv("LAKEFEED__WRITE__COMPACTION", "off")
    table = Table.create("pages", key_schema=ID)
    for start in range(0, ROWS, A_FILE):
        table.write({"id": list(range(start, start + A_FILE)), "x": list(range(start, start + A_FILE))})
    return table


def deadly(marks: Path) -> Any:
    """A function that records each of its calls, and kills its process in three of them."""

    def count(numbers: Any) -> Any:
        first = numbers.to_pylist()[0]
        (marks / f"{first}-{time.monotonic_ns()}-{os.getpid()}").touch()
        if first in (40, 100, 180) and not (marks / f"killed-{first}").exists():
            (marks / f"killed-{first}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return [2 * each for each in numbers.to_pylist()]

    return udf(pa.int64())(count)


def test_workers_of_a_cluster_that_are_killed(table: Table, tmp_path: Path) -> None:
    from distributed import Client, LocalCluster

    marks, folder = tmp_path / "marks", tmp_path / "checkpoint"
    marks.mkdir()
    before = len(Dataset("pages").list_versions())
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        enrichment = table.enrich({"y": deadly(marks)(table["x"])})
        snapshot = enrichment.apply_dask(client=client, max_task_size=A_FILE, checkpoint_dump=folder)
        assert client.status == "running", "a client of the caller stays open"
    assert snapshot is not None
    assert len(list(marks.glob("killed-*"))) == KILLS
    assert len(Dataset("pages").list_versions()) == before + 1
    assert snapshot.scan("y").to_table()["y"].to_pylist() == [2 * n for n in range(ROWS)]
    assert not folder.exists()


def test_a_process_that_is_killed_and_runs_again(table: Table, tmp_path: Path) -> None:
    marks, folder = tmp_path / "marks", tmp_path / "checkpoint"
    marks.mkdir()
    code = """
        import sys
        from pathlib import Path
        from lakefeed import Table
        from tests.sdk.keyed.test_spread_enrichment_kills import A_FILE, deadly
        from lakefeed.compute.processes import InProcess
        table = Table("pages")
        enrichment = table.enrich({"y": deadly(Path(sys.argv[1]))(table["x"])})
        enrichment.apply_on(InProcess(), max_task_size=A_FILE, checkpoint_dump=sys.argv[2])
    """
    before = len(Dataset("pages").list_versions())
    for _ in range(KILLS):
        program = Program(code, marks, folder)
        program.finish()
        assert program.returncode == -signal.SIGKILL
        assert len(Dataset("pages").list_versions()) == before
    last = Program(code, marks, folder)
    last.finish()
    assert last.returncode == 0
    assert len(Dataset("pages").list_versions()) == before + 1
    assert table.scan("y").to_table()["y"].to_pylist() == [2 * n for n in range(ROWS)]
    calls = [path.name.split("-")[0] for path in marks.iterdir()]
    assert {first: calls.count(str(first)) for first in range(0, ROWS, A_FILE)} == {
        first: 2 if first in (40, 100, 180) else 1 for first in range(0, ROWS, A_FILE)
    }, "only what was lost is derived again"
    assert threading.active_count() < 20
