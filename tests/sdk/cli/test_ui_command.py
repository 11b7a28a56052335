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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lakefeed import Dataset
from lakefeed.cli import ui_home, ui_project
from lakefeed.cli.main import cli
from lakefeed.errors import ConfigError

PERMISSIONS = {"query": "{ permissions { permission value } }"}
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


def test_a_project_is_found_by_its_files(tmp_path: Path) -> None:
    assert ui_project.find_project(tmp_path) is None
    file = tmp_path / "pyproject.toml"
    for text, arguments in (
        ("[project]\nname = 'x'\n", None),
        ("[tool.dagster]\nmodule_name = 'defs'\n", ()),
        ("[tool.dg.project]\nroot_module = 'defs'\n", ("-m", "defs.definitions", "-d", str(tmp_path))),
        ("[tool.dg.project]\ncode_location_target_module = 'd'\n", ("-m", "d", "-d", str(tmp_path))),
    ):
        file.write_text(text)
        project = ui_project.find_project(tmp_path)
        assert (None if project is None else project.arguments) == arguments
    (tmp_path / "workspace.yaml").write_text("load_from: []\n")
    project = ui_project.find_project(tmp_path)
    assert project is not None
    assert project.arguments == ("-w", str(tmp_path / "workspace.yaml"))
    (tmp_path / "workspace.yaml").unlink()
    file.write_text("[")
    with pytest.raises(ConfigError, match="TOML"):
        ui_project.find_project(tmp_path)


DEFINITIONS = """
import dagster as dg


@dg.asset
def made_by_a_project() -> None: ...


defs = dg.Definitions(assets=[made_by_a_project])
"""


def post(url: str, query: dict[str, str]) -> Any:
    request = urllib.request.Request(f"{url}/graphql", json.dumps(query).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["data"]


@contextmanager
def running_ui(home: Path, folder: Path, *options: str) -> Iterator[str]:
    """Yields the address of a UI, which an interrupt ends."""
    command = [sys.executable, "-m", "lakefeed.cli", "ui", "--port", "0", "--json", *options]
    environment = {**os.environ, "LAKEFEED_HOME": str(home), "TMPDIR": str(folder)}
    environment.pop("DAGSTER_HOME", None)
    with subprocess.Popen(
        command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield json.loads("".join(process.stdout.readline() for _ in range(4)))["url"]
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert list(folder.glob("lakefeed-ui-*")) == []


@pytest.mark.live
@pytest.mark.skipif(importlib.util.find_spec("dagster_webserver") is None, reason="Dagster's webserver is missing")
@pytest.mark.parametrize("read_only", [False, True])
def test_a_project_is_served(home: Path, tmp_path: Path, read_only: bool) -> None:
    (tmp_path / "project_defs.py").write_text(DEFINITIONS)
    (tmp_path / "pyproject.toml").write_text("[tool.dg.project]\ncode_location_target_module = 'project_defs'\n")
    with running_ui(home, tmp_path, *(["--read-only"] if read_only else [])) as url:
        nodes = {tuple(each["assetKey"]["path"]): each for each in post(url, QUERY)["assetNodes"]}
        assert nodes.keys() == {("made_by_a_project",)}
        allowed = {each["permission"] for each in post(url, PERMISSIONS)["permissions"] if each["value"]}
        assert ("launch_pipeline_execution" in allowed) != read_only


@pytest.mark.live
@pytest.mark.skipif(importlib.util.find_spec("dagster_webserver") is None, reason="Dagster's webserver is missing")
def test_the_page_answers_and_ctrl_c_leaves_nothing(home: Path, tmp_path: Path) -> None:
    Dataset.from_dict({"id": [1, 2]}).save("team.pets", description="Animals | of the zoo")
    Dataset.from_dict({"id": [1]}).save("broken")
    for file in home.glob("warehouse/default/broken-*/metadata/*.metadata.json"):
        file.write_text("{")
    with running_ui(home, tmp_path) as url:
        with urllib.request.urlopen(url, timeout=30) as page:
            assert b"<html" in page.read()
        nodes = {tuple(each["assetKey"]["path"]): each for each in post(url, QUERY)["assetNodes"]}
        assert sorted(nodes) == [("datasets", "broken"), ("datasets", "team", "pets")]
        pets = nodes["datasets", "team", "pets"]
        assert (pets["isMaterializable"], pets["description"]) == (False, "Animals | of the zoo")
        assert "damaged" in nodes["datasets", "broken"]["description"]
        assert [each for each in post(url, PERMISSIONS)["permissions"] if each["value"]] == []
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=5)
