"""A real Dagster, started from workspace.yaml and looked at through GraphQL."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dataset_assets.demo.landing import land
from dataset_assets.demo.server import Server, running
from lakefeed import Dataset

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[2]
ASSETS = (["datasets", "digits"], ["routines", "digits_features"], ["datasets", "digits_features"])
WRITE = """
import sys
from pathlib import Path
from dataset_assets.defs.digits import read_delivery
rows = read_delivery(Path(sys.argv[1]))
rows.append_to("digits") if sys.argv[2:] else rows.save("digits", column_types={"image": "image"})
"""


def write_from_another_process(labels: Path, *append: str) -> None:
    subprocess.run([sys.executable, "-c", WRITE, str(labels), *append], cwd=ROOT, check=True)


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing came of it"
        time.sleep(0.5)


STRAY = """
from lakefeed import Dataset
Dataset.from_dict({"x": [1, 2]}).save("stray")
"""


def materialized(server: Server) -> list[int]:
    shown = server.partitions(*ASSETS)
    return [shown["/".join(key)]["numMaterialized"] for key in ASSETS]


def test_what_another_process_writes_is_seen_profiled_and_worked_on(home: Path, tmp_path: Path) -> None:
    for delivery in (1, 2):
        land(tmp_path, delivery)
    with running(home) as server:
        write_from_another_process(tmp_path / "delivery-1" / "labels.csv")
        wait_for(lambda: materialized(server) == [1, 1, 1])
        write_from_another_process(tmp_path / "delivery-2" / "labels.csv", "append")
        wait_for(lambda: materialized(server) == [2, 2, 2])
        again = [server.backfill(asset, ["v1", "v2"]) for asset in ASSETS[:2]]
        wait_for(lambda: all(server.backfill_status(each).startswith("COMPLETED") for each in again))
        assert {server.backfill_status(each) for each in again} == {"COMPLETED_SUCCESS"}
    digits, features = (Dataset(name).to_arrow()["id"].to_pylist() for name in ("digits", "digits_features"))
    assert features == digits
    assert len(digits) == 1198


def test_a_dataset_that_nobody_declared_appears_within_a_minute(home: Path) -> None:
    with running(home) as server:
        assert server.partitions(["datasets", "stray"]) == {}
        subprocess.run([sys.executable, "-c", STRAY], cwd=ROOT, check=True)
        written = time.monotonic()
        wait_for(lambda: "datasets/stray" in server.partitions(["datasets", "stray"]), 60)
        appeared = time.monotonic() - written
        wait_for(lambda: server.partitions(["datasets", "stray"])["datasets/stray"]["numMaterialized"] == 1)
        assert appeared < 60
