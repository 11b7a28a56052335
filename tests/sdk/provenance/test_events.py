"""Events of OpenLineage: valid, sent when a run begins and ends, and never a reason for a run to fail."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from lakefeed import Dataset, lineage, track
from lakefeed.catalog.lake import Lake
from lakefeed.config import Settings
from lakefeed.errors import ConfigError
from lakefeed.provenance import event_transport, open_lineage

KINDS = {"START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"}
REQUIRED = {
    "version": {"datasetVersion": str},
    "schema": {"fields": list},
    "dataSource": {"name": str, "uri": str},
    "columnLineage": {"fields": dict},
    "outputStatistics": {"rowCount": int},
    "processing_engine": {"version": str},
    "errorMessage": {"message": str, "programmingLanguage": str},
    "parent": {"run": dict, "job": dict},
    "jobType": {"processingType": str, "integration": str},
    "lakefeed": {},
}
"""The facets that events have, with the properties that their schemas demand."""


def check(event: Any) -> None:
    """Checks an event as the specification demands."""
    assert event["eventType"] in KINDS
    assert dt.datetime.fromisoformat(event["eventTime"]).tzinfo is not None
    uuid.UUID(event["run"]["runId"])
    assert event["job"]["namespace"]
    assert event["job"]["name"]
    facets = [event["run"]["facets"], event["job"]["facets"]]
    for dataset in (*event["inputs"], *event["outputs"]):
        assert dataset["namespace"]
        assert dataset["name"]
        facets += [dataset.get(kind, {}) for kind in ("facets", "inputFacets", "outputFacets")]
    for name, facet in ((name, facet) for each in facets for name, facet in each.items()):
        assert [urlsplit(facet[key]).scheme for key in ("_producer", "_schemaURL")] == ["urn", "https"]
        assert all(isinstance(facet[key], kind) for key, kind in REQUIRED[name].items())
    assert [urlsplit(event[key]).scheme for key in ("producer", "schemaURL")] == ["urn", "https"]
    for dataset in (*event["inputs"], *event["outputs"]):
        assert urlsplit(dataset["facets"]["dataSource"]["uri"]).scheme or dataset["namespace"] == "lake"
        for column in dataset["facets"].get("schema", {}).get("fields", ()):
            assert isinstance(column["name"], str)
            assert isinstance(column["type"], str)
        for origins in dataset["facets"].get("columnLineage", {}).get("fields", {}).values():
            for origin in origins["inputFields"]:
                assert {"namespace", "name", "field"} <= origin.keys()
    parent = event["run"]["facets"].get("parent")
    if parent is not None:
        uuid.UUID(parent["run"]["runId"])
        assert {"namespace", "name"} <= parent["job"].keys()


def check_runs(events: list[Any]) -> None:
    """Checks that each run begins once and then ends once, as consumers such as Marquez expect."""
    kinds: dict[str, list[str]] = {}
    for event in sorted(events, key=lambda each: (each["run"]["runId"], each["eventTime"])):
        kinds.setdefault(event["run"]["runId"], []).append(event["eventType"])
    assert all(each[0] == "START" and len(each) == 2 and each[1] != "START" for each in kinds.values())


class Endpoint(BaseHTTPRequestHandler):
    """Keeps what it gets."""

    events: list[tuple[str, str | None, Any]] = []  # noqa: RUF012 - of all requests

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.events.append((self.path, self.headers["Authorization"], json.loads(body)))
        self.send_response(201)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    Endpoint.events.clear()
    server = HTTPServer(("127.0.0.1", 0), Endpoint)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    serving.join()
    server.server_close()


def test_a_run_sends_events(
    home: Path, tmp_path: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "events" / "lineage.jsonl"
    Dataset.from_dict({"x": [1, 2, 3]}).save("photos")
    for name, value in (("URL", endpoint), ("FILE", str(file)), ("API_KEY", "secret"), ("NAMESPACE", "lake")):
        monkeypatch.setenv(f"LAKEFEED__OPENLINEAGE__{name}", value)
    (tmp_path / "model").write_bytes(b"weights")
    with track("outer") as outer:
        with track("inner", params={"a": 1}) as run:
            Dataset("photos").shuffle(seed=3).save("out")
            run.log_file(tmp_path / "model")
        with pytest.raises(ValueError, match="bad"), track("bad"):
            raise ValueError("bad")
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(path, key) for path, key, _ in Endpoint.events] == [("/api/v1/lineage", "Bearer secret")] * 6
    assert [event for *_, event in Endpoint.events] == events
    for event in events:
        check(event)
    check_runs(events)
    assert [(each["eventType"], each["job"]["name"]) for each in events] == [
        *(("START", "outer"), ("START", "inner"), ("COMPLETE", "inner")),
        *(("START", "bad"), ("FAIL", "bad"), ("COMPLETE", "outer")),
    ]
    ended = events[2]
    assert (ended["run"]["runId"], ended["run"]["facets"]["parent"]["run"]["runId"]) == (run.id, outer.id)
    (read,) = ended["inputs"]
    assert (read["namespace"], read["name"], read["facets"]["version"]["datasetVersion"]) == ("lake", "photos", "1")
    assert (read["inputFacets"]["lakefeed"]["seed"], read["facets"]["schema"]["fields"]) == (
        3, [{"name": "x", "type": "long"}],
    )  # fmt: skip
    table, model = ended["outputs"]
    assert (table["name"], table["outputFacets"]["outputStatistics"]["rowCount"]) == ("out", 3)
    assert (model["name"], model["outputFacets"]["lakefeed"]["size"]) == ("model", 7)
    assert events[4]["run"]["facets"]["errorMessage"]["message"] == "ValueError: bad"

    from_lineage = lineage("out").openlineage()
    for event in from_lineage:
        check(event)
    check_runs(from_lineage)
    (again,) = [each for each in from_lineage if each["eventType"] == "COMPLETE" and each["run"]["runId"] == run.id]
    assert [each["name"] for each in again["inputs"] + again["outputs"]] == ["photos", "out"]

    monkeypatch.setenv("LAKEFEED__OPENLINEAGE__URL", "http://127.0.0.1:9")
    monkeypatch.setenv("LAKEFEED__OPENLINEAGE__FILE", str(tmp_path / "model" / "file"))
    with caplog.at_level(logging.WARNING, "lakefeed"):
        for _ in range(2):
            with track() as run:
                pass
    warned = [each.getMessage() for each in caplog.records if "OpenLineage" in each.getMessage()]
    assert len(warned) == 2, "one for each target"
    assert run.status == "completed"


def test_ids_settings_and_facets(home: Path) -> None:
    some = str(uuid.uuid4())
    assert open_lineage.run_id(some) == open_lineage.run_id(f"dagster:{some}") == some
    steps = {open_lineage.run_id(f"dagster:{some}", name) for name in ("a", "b")}
    assert len({*steps, some}) == 3
    with track("step", run_id=f"dagster:{some}", transform="x") as run:
        pass
    for event in lineage(run).openlineage():
        check(event)
        parent = event["run"]["facets"]["parent"]
        assert (event["run"]["runId"] in steps, parent["run"]["runId"]) == (False, some)
        assert event["run"]["runId"] == open_lineage.run_id(f"dagster:{some}", "step")
    assert open_lineage.run_id("slurm 17") == open_lineage.run_id("slurm 17") != open_lineage.run_id("slurm 18")
    with pytest.raises(ConfigError, match="http"):
        Settings.load(**{"openlineage.url": "marquez:5000"})
    assert not Settings.load().openlineage.is_on


def test_an_endpoint_that_hangs_delays_one_run(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Dataset.from_dict({"x": [1]}).save("a")
    hangs = threading.Event()
    monkeypatch.setattr(event_transport, "post", lambda *_: hangs.wait(30))
    monkeypatch.setattr(event_transport, "MAX_WAITING", 2)
    event_transport._sender.reset()
    monkeypatch.setenv("LAKEFEED__OPENLINEAGE__URL", "http://hangs")
    monkeypatch.setenv("LAKEFEED__OPENLINEAGE__TIMEOUT", "0.2")
    waited = []
    for _ in range(4):
        begun = time.monotonic()
        with caplog.at_level(logging.WARNING, "lakefeed"), track() as run:
            Dataset("a").to_arrow()
        waited.append(time.monotonic() - begun)
        assert run.status == "completed"
    assert waited[0] >= 0.2
    assert len([each for each in caplog.records if "later ones are lost" in each.getMessage()]) == 1
    assert event_transport._sender._is_behind
    hangs.set()
    event_transport._sender.drain()
    assert event_transport._sender._unsent == 0
    event_transport._sender.reset()


def test_lines_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    file, lines = tmp_path / "deep" / "events.jsonl", 50
    children = []
    for letter in "abcd":
        child = os.fork()
        if not child:
            for _ in range(lines):
                event_transport.append_line(file, letter.encode() * 20_000)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    written = file.read_text().splitlines()
    assert sorted(written) == sorted(letter * 20_000 for letter in "abcd" * lines)


def test_the_namespace_of_datasets_is_a_uri(home: Path) -> None:
    def namespace(**settings: Any) -> str:
        return event_transport.lake_namespace(Lake(Settings.load(**settings)))

    assert namespace() == f"file://{home}/warehouse"
    assert namespace(**{"catalog.warehouse": "/data/my lake"}) == "file:///data/my%20lake"
    assert namespace(**{"catalog.warehouse": "s3://bucket/lake"}) == "s3://bucket/lake"
    assert namespace(**{"openlineage.namespace": "prod"}) == "prod"
