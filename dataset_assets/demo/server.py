"""A real Dagster (webserver and daemon, from workspace.yaml) that ends with the process that started it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resources.reload_resource import URL_VARIABLE

ROOT = Path(__file__).parents[2]
LOCATION = {"repositoryLocationName": "lakefeed", "repositoryName": "__repository__"}
START_SECONDS = 90.0

# Beside Dagster something waits for the end of its input, which comes also if whoever holds the other end is killed;
# then it ends the whole process group, politely for at most five seconds.
GUARD = """
exec 3<&0
trap : TERM
( trap : TERM; read -r _ <&3; kill -TERM 0; sleep 5; kill -KILL 0 ) &
"$@" </dev/null 3<&-
kill -KILL 0
"""

READY = """
{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { __typename
  ... on PythonError { message } } } } } }
"""
LAUNCH = """
mutation Launch($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""
BACKFILL = """
mutation Backfill($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }
"""
BACKFILL_STATUS = """
query Status($id: String!) { partitionBackfillOrError(backfillId: $id) {
  __typename ... on PartitionBackfill { status } } }
"""
AGAIN = """
mutation Again($params: ReexecutionParams!) { launchRunReexecution(reexecutionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""
RUNS = """
query Runs($tag: ExecutionTag!) { runsOrError(filter: {tags: [$tag]}) { ... on Runs { results { runId } } } }
"""
STATUS = "query Status($id: ID!) { runOrError(runId: $id) { __typename ... on Run { status } } }"
UNFINISHED = """
{ runsOrError(filter: {statuses: [QUEUED, NOT_STARTED, STARTING, STARTED, CANCELING]}) {
  ... on Runs { results { runId } } } }
"""
PARTITIONS = """
query Partitions($keys: [AssetKeyInput!]) { assetNodes(assetKeys: $keys) {
  assetKey { path } partitionStats { numPartitions numMaterialized numFailed } } }
"""


class DagsterError(RuntimeError):
    """Dagster did not do what was asked; the message says where to look."""


@dataclass(frozen=True)
class Server:
    """A running Dagster: GraphQL at ``url``, its output in ``log``."""

    url: str
    log: Path
    pid: int

    def query(self, text: str, **variables: Any) -> dict[str, Any]:
        """The data that the query gives."""
        body = json.dumps({"query": text, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            answer = json.load(response)
        if answer.get("errors"):
            raise DagsterError(f"GraphQL: {answer['errors'][0]['message']}")
        data: dict[str, Any] = answer["data"]
        return data

    def launch(self, job: str) -> str:
        """The id of a new run of the job."""
        selector = {**LOCATION, "jobName": job}
        answer = self.query(LAUNCH, params={"selector": selector, "runConfigData": "{}", "mode": "default"})[
            "launchRun"
        ]
        if answer["__typename"] != "LaunchRunSuccess":
            raise DagsterError(f"job {job} cannot be launched: {answer.get('message', answer['__typename'])}")
        run_id: str = answer["run"]["runId"]
        return run_id

    def execute_again(self, run_id: str) -> str:
        """The id of a new run that does all of an old one again, as the UI's "Re-execute all" does."""
        params = {"parentRunId": run_id, "strategy": "ALL_STEPS"}
        answer = self.query(AGAIN, params=params)["launchRunReexecution"]
        if answer["__typename"] != "LaunchRunSuccess":
            raise DagsterError(f"run {run_id} is not executed again: {answer.get('message', answer['__typename'])}")
        again: str = answer["run"]["runId"]
        return again

    def runs(self, tag: str, value: str) -> list[str]:
        """The ids of the runs that have the tag, the newest first."""
        answer = self.query(RUNS, tag={"key": tag, "value": value})["runsOrError"]["results"]
        return [run["runId"] for run in answer]

    def backfill(self, asset: list[str], partitions: list[str]) -> str:
        """The id of a backfill of some partitions of an asset; its runs go in the order of the partitions."""
        params = {"assetSelection": [{"path": asset}], "partitionNames": partitions}
        answer = self.query(BACKFILL, params=params)["launchPartitionBackfill"]
        if answer["__typename"] != "LaunchBackfillSuccess":
            raise DagsterError(f"no backfill of {asset}: {answer.get('message', answer['__typename'])}")
        backfill: str = answer["backfillId"]
        return backfill

    def backfill_status(self, backfill: str) -> str:
        """The status of a backfill, such as COMPLETED_SUCCESS."""
        return str(self.query(BACKFILL_STATUS, id=backfill)["partitionBackfillOrError"].get("status", "UNKNOWN"))

    def status(self, run_id: str) -> str:
        """The status of a run, such as SUCCESS."""
        return str(self.query(STATUS, id=run_id)["runOrError"].get("status", "UNKNOWN"))

    def unfinished(self) -> int:
        """The number of runs that are queued or under way."""
        return len(self.query(UNFINISHED)["runsOrError"]["results"])

    def partitions(self, *keys: list[str]) -> dict[str, dict[str, int]]:
        """Returns for each asset the numbers of existing, materialized and failed partitions."""
        nodes = self.query(PARTITIONS, keys=[{"path": key} for key in keys])["assetNodes"]
        return {"/".join(node["assetKey"]["path"]): node["partitionStats"] or {} for node in nodes}

    def is_ready(self) -> bool:
        """Returns whether the webserver answers and the definitions are loaded.

        Raises:
            DagsterError: the definitions do not load.
        """
        try:
            entries = self.query(READY)["workspaceOrError"].get("locationEntries", [])
        except OSError:
            return False
        answer = [entry["locationOrLoadError"] or {} for entry in entries]
        if broken := [each["message"] for each in answer if each.get("__typename") == "PythonError"]:
            raise DagsterError(f"the definitions do not load: {broken[0]}")
        return any(each.get("__typename") == "RepositoryLocation" for each in answer)


@contextmanager
def running(home: Path) -> Iterator[Server]:
    """A Dagster on ``home``/dagster, ready; nothing of it is left afterwards, even if this process is killed."""
    instance = home / "dagster"
    instance.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "dagster.yaml", instance)
    port, log = _free_port(), instance / "dagster.log"
    dagster = [sys.executable, "-m", "dagster", "dev", "-w", str(ROOT / "workspace.yaml")]
    url = f"http://127.0.0.1:{port}"
    homes = {"LAKEFEED_HOME": str(home), "DAGSTER_HOME": str(instance)}
    environment = {**os.environ, **homes, URL_VARIABLE: url}
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["sh", "-c", GUARD, "sh", *dagster, "-h", "127.0.0.1", "-p", str(port)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=home,
            env=environment,
            start_new_session=True,
        )
    try:
        server = Server(url, log, process.pid)
        _wait_until_ready(server, process)
        yield server
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def _wait_until_ready(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not server.is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise DagsterError(f"Dagster did not come up; its last words:\n{tail(server.log)}")
        time.sleep(0.2)


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log file."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
