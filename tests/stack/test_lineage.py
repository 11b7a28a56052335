"""Runs and lineages on PostgreSQL and S3, also while the database is away."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from lakefeed import Dataset, lineage, track
from lakefeed.config import Settings
from lakefeed.provenance import run_recorder
from lakefeed.records.record_registry import Registry
from lakefeed.records.record_tables import METADATA
from tests.sdk.processes import Program
from tests.stack.servers import Stack

pytestmark = [pytest.mark.stack, pytest.mark.slow]

HANG = """
    import time
    from lakefeed import Dataset, track
    run = track("hanging", run_id="hanging")
    Dataset("pictures").save("half")
    run._recorder.flush()
    print("ready", flush=True)
    time.sleep(600)
"""


def labels(name: str) -> list[str]:
    nodes = lineage(name, down=0).nodes
    return [f"{node.label} {node.state}" for node in nodes if node.kind != "code"]


@pytest.mark.usefixtures("name")
def test_a_model_on_postgresql_and_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED__OPENLINEAGE__FILE", str(tmp_path / "events.jsonl"))
    Dataset.from_dict({"x": list(range(8))}).save("photos")
    with track("clean"):
        Dataset("photos").filter("x > 2").save("team.small")
    with track("train", params={"lr": 0.1}) as run:
        list(Dataset("team.small").shuffle(seed=3).to_torch(batch_size=2))
        (tmp_path / "model.pt").write_bytes(b"weights")
        run.log_file(tmp_path / "model.pt")
    model = str(tmp_path / "model.pt")
    trained = ["model.pt present", "train completed", "team.small v1 present", "clean completed", "photos v1 present"]
    assert labels(model) == trained
    (read,) = [each for each in lineage(model, down=0).edges if each.target == f"run:{run.id}" and each.facts]
    assert (read.facts["seed"], read.facts["epoch"]) == (3, 0)
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [each["eventType"] for each in events] == ["START", "COMPLETE"] * 2
    assert events[0]["run"]["runId"] == events[1]["run"]["runId"]
    assert {each["namespace"] for each in events[3]["inputs"]} == {Settings.load().warehouse}
    assert len(lineage(model).openlineage()) == 4

    Dataset("photos").move("pictures")
    Dataset("team.small").delete()
    changed = [
        "team.small v1 trash" if each.startswith("team") else each.replace("photos", "pictures") for each in trained
    ]
    assert labels(model) == changed
    with Registry.open().write() as connection:
        for name in ("lakefeed_record", "lakefeed_origin", "lakefeed_upstream", "lakefeed_table"):
            METADATA.tables[name].drop(connection)
    assert "clean completed" in labels("team.small@1"), "the commits have it"

    program = Program(HANG)
    assert program.stdout.readline().strip() == "ready"
    program.kill()
    program.finish()
    assert labels("half")[1] == "hanging lost"


def test_the_database_goes_away_in_the_middle(
    name: str, servers: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The registry has a database of its own here, because commits need that of the catalog."""
    registry = servers.postgres.create(f"{name}_registry")
    monkeypatch.setenv("LAKEFEED__CATALOG__URI", f"sqlite:///{tmp_path}/catalog.db")
    monkeypatch.setenv("LAKEFEED__REGISTRY__URI", registry)
    monkeypatch.setenv("LAKEFEED__CATALOG__PATIENCE", "0.5")
    monkeypatch.setattr(run_recorder, "END_SECONDS", 3.0)
    Dataset.from_dict({"x": [1, 2]}).save("photos")
    try:
        with track("through", run_id="through") as run:
            Dataset("photos").to_arrow()
            run._recorder.flush()
            servers.postgres.kill()
            Dataset("photos").append_to("photos")
            assert Dataset("photos").count() == 4
            assert labels("photos@2")[:3] == ["photos v2 present", "through unknown", "photos v1 present"]
            servers.postgres.start()
            Dataset("photos").save("out")
        assert run.status == "completed"
        assert labels("out")[:2] == ["out v1 present", "through completed"]
        servers.postgres.kill()
        with caplog.at_level(logging.WARNING, "lakefeed"), track("without", run_id="without"):
            Dataset("out").save("last")
        (warning,) = [each.getMessage() for each in caplog.records if "not recorded" in each.getMessage()]
        assert "without" in warning
    finally:
        if servers.postgres.guard is None:
            servers.postgres.start()
    assert labels("last")[:3] == ["last v1 present", "without unknown", "out v1 present"]
    runs = {str(each.external): each.status for each in Registry.open().runs.all()}
    assert runs == {"through": "completed", "without": "unknown"}
