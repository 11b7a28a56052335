"""`make ui`: it starts Dagster with a quiet log, or says why it does not."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dataset_assets.demo import ui

ROOT = Path(__file__).parents[2]


def test_the_ui_says_that_its_port_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert ui.main(["127.0.0.1", str(port)]) == 1
        assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in capsys.readouterr().err
    assert ui.port_problem("127.0.0.1", str(port)) is None
    for port_text in ("0", "65536", "http", "-1", ""):
        assert "is not a port" in (ui.port_problem("127.0.0.1", port_text) or "")
    assert "cannot listen" in (ui.port_problem("no.such.host.invalid", "3000") or "")


def test_the_ui_is_dagster_with_a_quiet_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(ui.os, "execv", lambda _, command: started.append(command))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONWARNINGS", "")
    monkeypatch.chdir(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ui.main(["127.0.0.1", port, "--live-data-poll-rate", "1000"])
    [command] = started
    assert command[1:4] == ["dev", "-w", str(ROOT / "workspace.yaml")]
    assert command[4:] == ["-h", "127.0.0.1", "-p", port, "--log-level", "warning", "--live-data-poll-rate", "1000"]
