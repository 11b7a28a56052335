"""A Dagster whose code server and daemons are processes that die and are started again, as a supervisor does."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from dagster import DagsterInstance

from dataset_assets.demo.server import tail
from tests.orchestration.soaked import WORKING

ROOT = Path(__file__).parents[2]
WORKSPACE = "load_from: [{grpc_server: {host: 127.0.0.1, port: %d, location_name: lakefeed}}]\n"
CODE = "code server"
# A run's process lives about so long, most of it for imports.
RUN_SECONDS, WORK_SECONDS, PATIENCE_SECONDS = 4.0, 1.0, 1_200.0


def processes_of(home: Path) -> list[int]:
    """All that work on this home's Dagster instance, whoever started them."""
    mark = f"DAGSTER_HOME={home / 'dagster'}\0".encode()
    return [pid for pid, place in _processes() if mark in _read(place / "environ") + b"\0"]


def run_processes(home: Path) -> list[int]:
    """Those that execute a run: the code server spawns them, and they outlive it."""
    return [pid for pid in processes_of(home) if b"spawn_main" in _read(Path(f"/proc/{pid}/cmdline"))]


def working(home: Path) -> set[int]:
    """The processes that have said that they are at work, alive or not."""
    return {int(each.name) for each in (home / WORKING).glob("*")}


@dataclass
class Mortal:
    """``parts``: the processes that are kept running, by name."""

    home: Path
    code: Path
    daemons: int = 1
    environment: dict[str, str] = field(default_factory=dict)
    parts: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.instance.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "dagster.yaml", self.instance)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.workspace.write_text(WORKSPACE % self.port)

    @property
    def instance(self) -> Path:
        return self.home / "dagster"

    @property
    def workspace(self) -> Path:
        return self.instance / "workspace.yaml"

    @property
    def log(self) -> Path:
        return self.instance / "mortal.log"

    @property
    def names(self) -> list[str]:
        return [CODE, *(f"daemon {number}" for number in range(self.daemons))]

    def prepare(self) -> None:
        """Makes Dagster's databases, which processes that begin at once would trip over."""
        with DagsterInstance.from_config(str(self.instance)) as instance:
            instance.get_runs(limit=1)

    def start(self, *names: str) -> None:
        serve = ["dagster", "api", "grpc", "-f", str(self.code), "-a", "defs", "-d", str(ROOT)]
        commands = {CODE: [*serve, "-h", "127.0.0.1", "-p", str(self.port), "--location-name", "lakefeed"]}
        homes = {"LAKEFEED_HOME": str(self.home), "DAGSTER_HOME": str(self.instance)}
        for name in names or self.names:
            command = commands.get(name, ["dagster._daemon", "run", "-w", str(self.workspace)])
            with self.log.open("ab") as output:
                self.parts[name] = subprocess.Popen(
                    [sys.executable, "-m", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=ROOT,
                    env={**os.environ, **homes, **self.environment},
                )

    def kill(self, *names: str) -> None:
        for name in names or self.names:
            process = self.parts.pop(name)
            process.kill()
            process.wait()

    def kill_a_run(self, draw: random.Random) -> None:
        """Waits for one to begin, every other time for one that is at work, and then for a moment within its life."""
        at_work = draw.random() < 0.5
        begun = (lambda: working(self.home)) if at_work else (lambda: set(run_processes(self.home)))
        seen, deadline = begun(), time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            for pid in begun() - seen:
                seen.add(pid)
                time.sleep(draw.uniform(0, WORK_SECONDS if at_work else RUN_SECONDS))
                if pid in run_processes(self.home):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        return
            time.sleep(0.05)
        raise AssertionError(f"no run begins:\n{tail(self.log)}")

    def wait_for(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not done():
            assert time.monotonic() < deadline, f"nothing came of it:\n{tail(self.log)}"
            time.sleep(0.5)


@contextmanager
def mortal(home: Path, code: Path, **settings: int) -> Iterator[Mortal]:
    """All its parts are running; nothing of it is left afterwards."""
    dagster = Mortal(home, code, **settings)
    dagster.prepare()
    dagster.start()
    try:
        yield dagster
    finally:
        dagster.kill()
        # Again until nothing is left: a run may be starting another process.
        while left := processes_of(home):
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)


def _processes() -> Iterator[tuple[int, Path]]:
    for place in Path("/proc").glob("[0-9]*"):
        yield int(place.name), place


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # ended meanwhile, or somebody else's
        return b""
