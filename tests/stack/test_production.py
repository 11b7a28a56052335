"""Production as deploy/ has it, commands, instance and settings, on PostgreSQL and S3; only the ports differ."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

from dataset_assets.defs.digits import deliveries
from dataset_assets.demo.landing import DELIVERIES, land
from dataset_assets.demo.server import GUARD, Server
from lakefeed import Dataset
from tests.deploy.test_files import SERVICES, variables
from tests.stack.servers import LOGS, Stack, free_ports

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.live, pytest.mark.timeout(420)]
ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
ASSETS = (["datasets", "digits"], ["routines", "digits_features"], ["datasets", "digits_features"])
BIN = Path(sys.executable).parent
PATIENCE_SECONDS = 240


@dataclass(frozen=True)
class Production:
    """What runs, and the home of its Dagster."""

    server: Server
    environment: dict[str, str]

    @property
    def instance(self) -> DagsterInstance:
        return DagsterInstance.from_config(self.environment["DAGSTER_HOME"])

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, self.server.log.read_text()[-4000:]
            time.sleep(0.5)

    def deliver(self, delivery: int) -> None:
        """A delivery lands and is ingested."""
        land(deliveries.path, delivery)
        time.sleep(1.5)
        run = self.server.launch(deliveries.job_name)
        self.wait_for(lambda: self.server.status(run) in ("SUCCESS", "FAILURE", "CANCELED"))
        assert self.server.status(run) == "SUCCESS"

    def materialized(self) -> list[int]:
        shown = self.server.partitions(*ASSETS)
        return [shown["/".join(key)].get("numMaterialized", 0) for key in ASSETS]


def environment_of(servers: Stack, home: Path) -> dict[str, str]:
    """As .env.example has it, every variable."""
    code, webserver = free_ports(2)
    values = {
        **servers.aws(),
        "DAGSTER_POSTGRES_URL": servers.postgres.url(servers.fresh()),
        "LAKEFEED__CATALOG__URI": servers.postgres.url(servers.fresh()),
        "DAGSTER_LOGS_BUCKET": LOGS,
        "DAGSTER_MAX_CONCURRENT_RUNS": "2",
        "LAKEFEED_CODE_HOST": "127.0.0.1",
        "LAKEFEED_CODE_PORT": str(code),
        "LAKEFEED_DAGSTER_URL": f"http://127.0.0.1:{webserver}",
    }
    assert set(values) == set(variables()) - {"POSTGRES_PASSWORD"}
    of_the_image = {
        "LAKEFEED_CONFIG": str(DEPLOY / "lakefeed.toml"),
        "LAKEFEED_HOME": str(home),
        "DAGSTER_HOME": str(home / "dagster"),
    }
    return values | of_the_image


def command_of(service: str, environment: dict[str, str], words: list[str] | None = None) -> list[str]:
    """The command of the compose file (or ``words`` of it), on this machine."""
    here = {
        "0.0.0.0": "127.0.0.1",
        "4000": environment["LAKEFEED_CODE_PORT"],
        "3000": environment["LAKEFEED_DAGSTER_URL"].rsplit(":", 1)[1],
        "/opt/lakefeed": str(ROOT),
        "workspace.yaml": str(DEPLOY / "workspace.yaml"),
    }
    words = SERVICES[service]["command"].split() if words is None else words
    program, *arguments = [here.get(word, word) for word in words]
    return [str(BIN / program), *arguments]


def is_healthy(service: str, environment: dict[str, str]) -> bool:
    """As the compose file finds it out; what ends a container is for containers only."""
    check, _, _ = SERVICES[service]["healthcheck"]["test"][1].partition("&&")
    words = check.split()
    return subprocess.run(command_of(service, environment, words), capture_output=True).returncode == 0


@contextmanager
def started(command: list[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["sh", "-c", GUARD, "sh", *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


@pytest.fixture
def production(servers: Stack, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Production]:
    environment = environment_of(servers, home)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (home / "dagster").mkdir(parents=True)
    shutil.copy(DEPLOY / "dagster.yaml", home / "dagster")
    log = home / "log"
    with ExitStack() as until_done:
        server = Server(environment["LAKEFEED_DAGSTER_URL"], log, os.getpid())
        found = Production(server, environment)
        until_done.enter_context(started(command_of("code", environment), environment, log))
        found.wait_for(lambda: is_healthy("code", environment))  # as `depends_on` has it
        for service in ("webserver", "daemon"):
            until_done.enter_context(started(command_of(service, environment), environment, log))
        found.wait_for(server.is_ready)
        yield found


def ids(name: str) -> list[int]:
    return sorted(Dataset(name).select(["id"]).to_arrow()["id"].to_pylist())


def run_processes(home: str) -> list[int]:
    """The processes of runs of this Dagster: the code server spawns one for each."""
    mark, found = f"DAGSTER_HOME={home}\0".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes() and b"spawn_main" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:  # ended meanwhile, or somebody else's
            continue
    return found


def test_the_pipeline_of_the_demo_in_production(production: Production, servers: Stack) -> None:
    production.deliver(1)
    production.wait_for(lambda: production.materialized() == [1, 1, 1])
    assert ids("digits") == ids("digits_features") == list(range(599))
    # It came by itself, while the code server ran: the reload that the sensor asks for is done by it.
    Dataset.from_dict({"x": [1]}).save("stray")
    production.wait_for(lambda: "datasets/stray" in production.server.partitions(["datasets", "stray"]))
    with production.instance as instance:
        assert type(instance.event_log_storage).__module__.startswith("dagster_postgres")
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
        (run, *_) = instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.SUCCESS]), limit=1)
    production.wait_for(lambda: any(run.run_id in key for key in servers.store.keys("compute-logs/", LOGS)))
    assert not list(Path(production.environment["LAKEFEED_HOME"]).rglob("*.parquet"))
    assert not list(Path(production.environment["DAGSTER_HOME"]).rglob("*.db"))


def is_settled(materialized: list[int]) -> bool:
    """Whether every asset has each version; right after the kills none may have any."""
    return all(materialized) and len(set(materialized)) == 1


@pytest.mark.soak
def test_runs_whose_processes_are_killed_are_run_again_and_repeat_nothing(production: Production) -> None:
    killed = 0
    for delivery in range(1, DELIVERIES + 1):
        land(deliveries.path, delivery)
        time.sleep(1.5)
        production.server.launch(deliveries.job_name)
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            for process in run_processes(production.environment["DAGSTER_HOME"])[:1]:
                time.sleep(0.5)
                try:
                    os.kill(process, signal.SIGKILL)
                    killed += 1
                except ProcessLookupError:
                    continue
            time.sleep(0.1)
    production.wait_for(lambda: is_settled(production.materialized()) and not production.server.unfinished())
    assert killed > 2
    assert ids("digits") == ids("digits_features")
    with production.instance as instance:
        assert instance.get_runs(RunsFilter(tags={"dagster/retry_number": "1"}), limit=1)
