"""``lakefeed ui``: the page answers, shows the datasets, and leaves nothing behind."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from lakefeed import Dataset
from lakefeed.cli import ui_home
from lakefeed.cli.main import cli

QUERY = {"query": "{ assetNodes { assetKey { path } isMaterializable description dependencyKeys { path } } }"}


def test_a_missing_dagster_and_a_taken_port_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui_home.importlib.util, "find_spec", lambda name: object())
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = CliRunner().invoke(cli, ["ui", "--port", str(listener.getsockname()[1])])
    assert (taken.exit_code, "choose another --port" in taken.stderr) == (1, True)
    monkeypatch.setattr(ui_home.importlib.util, "find_spec", lambda name: None)
    missing = CliRunner().invoke(cli, ["ui"])
    assert (missing.exit_code, "pip install 'dagster-webserver" in missing.stderr) == (1, True)


@pytest.mark.live
@pytest.mark.skipif(importlib.util.find_spec("dagster_webserver") is None, reason="Dagster's webserver is missing")
def test_the_page_answers_and_ctrl_c_leaves_nothing(home: Path, tmp_path: Path) -> None:
    Dataset.from_dict({"id": [1, 2]}).save("team.pets", description="Animals | of the zoo")
    Dataset.from_dict({"id": [1]}).save("broken")
    for file in home.glob("warehouse/default/broken-*/metadata/*.metadata.json"):
        file.write_text("{")
    command = [sys.executable, "-m", "lakefeed.cli", "ui", "--port", "0", "--json"]
    environment = {**os.environ, "LAKEFEED_HOME": str(home), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(3)]
            url = json.loads("".join(lines))["url"]
            with urllib.request.urlopen(url, timeout=30) as page:
                assert b"<html" in page.read()
            request = urllib.request.Request(
                f"{url}/graphql", json.dumps(QUERY).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                nodes = {tuple(each["assetKey"]["path"]): each for each in json.load(answer)["data"]["assetNodes"]}
            assert sorted(nodes) == [("datasets", "broken"), ("datasets", "team", "pets")]
            pets = nodes["datasets", "team", "pets"]
            assert (pets["isMaterializable"], pets["description"]) == (False, "Animals | of the zoo")
            assert "damaged" in nodes["datasets", "broken"]["description"]
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert list(tmp_path.glob("lakefeed-ui-*")) == []
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=5)
