"""``lakefeed lineage``: tables, pictures, events, and columns."""

from __future__ import annotations

import json
from pathlib import Path

from lakefeed import Dataset, track
from lakefeed.routines import Routine, run_versions
from tests.sdk.cli.test_commands import document, lines, run


def with_area(rows: Dataset) -> Dataset:
    return rows.with_column("area", "width * 2").select(["width", "area"])


def test_lineage(home: Path, tmp_path: Path) -> None:
    Dataset.from_dict({"width": [1, 2]}).save("photos")
    (tmp_path / "model").write_bytes(b"w")
    with track("clean") as tracked:
        Dataset("photos").save("small")
        tracked.log_file(tmp_path / "model")
    assert [line[:5] for line in lines("lineage", "small", "--up")] == [
        ["steps", "kind", "name", "version", "state"],
        ["-1", "version", "photos", "1", "present"],
        ["0", "version", "small", "1", "present"],
        ["0", "run", "clean", "", "completed"],
        ["0", "code", lines("lineage", "small", "--up")[4][2], "", "present"],
    ]
    assert {line[2] for line in lines("lineage", "photos@1", "--down", "-n", "1")} >= {
        "photos",
        "small",
        "clean",
        "model",
    }
    assert {line[2] for line in lines("lineage", str(tmp_path / "model"), "--up")} >= {"photos", "clean", "model"}
    assert lines("lineage", tracked.id, "-n", "0")[1][2] == "clean"
    assert run("lineage", "small", "--mermaid").stdout.startswith("flowchart LR\n")
    assert run("lineage", "small", "--svg").stdout.startswith("<svg")
    events = json.loads(run("lineage", "small", "--openlineage").stdout)
    assert [each["eventType"] for each in events] == ["START", "COMPLETE"]
    graph = document("lineage", "small")
    assert isinstance(graph, dict)
    assert graph["nodes"][0]["label"] == "small v1"
    assert "no dataset, run or registered file" in run("lineage", "smal", code=4).stderr
    run("lineage", "small", "--svg", "--mermaid", code=2)

    list(run_versions(Routine("areas", with_area, "photos", "areas")))
    assert [line[2] for line in lines("lineage", "areas.area")[1:]] == ["photos.width", "areas.area"]
    down = [line[2] for line in lines("lineage", "photos.width", "--down")[1:]]
    assert down == ["photos.width", "areas.width", "areas.area"]
