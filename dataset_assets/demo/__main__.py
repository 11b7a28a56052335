"""From image files to a trained model, through Dagster: ``python -m dataset_assets.demo``.

The home is ``$LAKEFEED_DEMO_HOME``, by default ``.lakefeed/demo`` in the repository; on a home that has been used
already, what is there is kept, and only what is missing is made.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dataset_assets.asset_keys import key_of
from dataset_assets.defs.digits import deliveries, digits_features
from dataset_assets.demo.landing import DELIVERIES, land
from dataset_assets.demo.server import ROOT, DagsterError, Server, running, tail
from dataset_assets.demo.training import Trained, TrainingError, train
from lakefeed import Dataset, lineage
from lakefeed.errors import LakefeedError
from lakefeed.ingest import arrivals
from lakefeed.routines import history, pending

LEAST_ACCURACY = 0.95
PATIENCE_SECONDS = 180.0
# A failed run is requested again at the next tick of a sensor; long after that, it is not.
RETRY_SECONDS = 30.0
NAMES = ("digits", "digits_features")
# Assets, and the dataset of which each has a partition for every version.
SHOWN = {
    "datasets/digits": "digits",
    "routines/digits_features": "digits",
    "datasets/digits_features": "digits_features",
}

begun = time.monotonic()


class DemoError(RuntimeError):
    """A step did not come to the result that it must have."""


def main() -> int:
    home = Path(os.environ.get("LAKEFEED_DEMO_HOME") or ROOT / ".lakefeed" / "demo").absolute()
    home.mkdir(parents=True, exist_ok=True)
    os.environ |= {"LAKEFEED_HOME": str(home), "DAGSTER_HOME": str(home / "dagster")}
    try:
        orchestrate(home)
        with step("the features have exactly one row for every digit"):
            check_rows()
        with step("training stops in mid-epoch, a new process resumes it"):
            trained = train(history(digits_features)[-1].output_version, home / "training")
            if trained.accuracy < LEAST_ACCURACY:
                raise DemoError(f"held-out accuracy is {trained.accuracy:.3f}, expected at least {LEAST_ACCURACY}")
    except (DemoError, DagsterError, TrainingError, LakefeedError, OSError) as error:
        print(error, flush=True)
        return 1
    print(report(trained, home / "training" / "resumed" / "model.pt"))
    return 0


def orchestrate(home: Path) -> None:
    """Has Dagster ingest three deliveries and run the routine on each of them."""
    with ExitStack() as until_done:
        with step("Dagster starts (webserver and daemon)"):
            server = until_done.enter_context(running(home))
            say(f"its UI is at {server.url} while the demo runs")
        for delivery in range(1, DELIVERIES + 1):
            with step(f"delivery {delivery} lands and is ingested"):
                deliver(server, delivery)
        with step("the routine computes features; every version is profiled and checked"):
            watch = Watch(server)
            wait_for("the runs that the sensors start", watch.all_done)


def deliver(server: Server, delivery: int) -> None:
    """Lands a delivery and has Dagster ingest it; what an earlier demo has ingested is left as it is."""
    images = land(deliveries.path, delivery)
    wait_for("the files to settle", lambda: not arrivals(deliveries).settling)
    if not arrivals(deliveries).new:
        say(f"{images} images, ingested before")
        return
    run = server.launch(deliveries.job_name)
    wait_for("the ingestion", lambda: server.status(run) in ("SUCCESS", "FAILURE", "CANCELED"))
    if server.status(run) != "SUCCESS":
        raise DagsterError(f"the ingestion run failed; the end of {server.log}:\n{tail(server.log)}")
    newest = Dataset("digits").list_versions()[0]
    say(f"{images} images; digits is at {key_of(newest.version)} with {newest.total_records} rows")


class Watch:
    """Reports Dagster's progress whenever it changes."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.said = ""
        self.busy_at = time.monotonic()

    def all_done(self) -> bool:
        """Returns whether the routine has read everything and Dagster shows every version."""
        shown = self.server.partitions(*(key.split("/") for key in SHOWN))
        versions = {key: len(Dataset(name).list_versions()) for key, name in SHOWN.items() if Dataset.exists(name)}
        state = ", ".join(f"{key} {shown[key]['numMaterialized']} of {count}" for key, count in versions.items())
        if state != self.said:
            self.said = state
            say(f"shown in Dagster: {state}")
        idle = not self.server.unfinished()
        self._give_up_if_failed(idle, sum(each["numFailed"] for each in shown.values()))
        complete = all(shown[key]["numMaterialized"] == versions.get(key) for key in SHOWN)
        return complete and idle and pending(digits_features) is None

    def _give_up_if_failed(self, idle: bool, failed: int) -> None:
        if not idle:
            self.busy_at = time.monotonic()
        elif failed and time.monotonic() - self.busy_at > RETRY_SECONDS:
            raise DagsterError(f"runs failed and are not tried again; {self.server.log}:\n{tail(self.server.log)}")


def check_rows() -> None:
    """Compares the ids of source and output: nothing lost, nothing twice."""
    digits, features = (Dataset(name).select(["id"]).to_arrow()["id"].sort().to_pylist() for name in NAMES)
    if digits != features or len(set(digits)) != len(digits):
        raise DemoError(f"{len(digits)} digits ({len(set(digits))} distinct), {len(features)} feature rows")
    say(f"{len(digits)} digits, {len(features)} feature rows, the same ids")


def report(trained: Trained, model: Path) -> str:
    """The short report at the end."""
    lines = ["", "versions"]
    for name in NAMES:
        for version in reversed(Dataset(name).list_versions()):
            added, total = version.added_records, version.total_records
            rows = f"+{added} rows, {total} in all"
            lines.append(f"  {name:16} {key_of(version.version):4} {rows:24} {version.message}")
    lines.append("routine digits_features")
    for done in history(digits_features):
        at = f"digits {key_of(done.to_version)} -> digits_features {key_of(done.output_version)}"
        lines.append(f"  {at}: {done.rows_in} rows in, {done.rows_out} out   run {(done.run or '')[:8]}")
    return "\n".join(
        [
            *lines,
            "training (SDK and torch only)",
            f"  loader      {trained.rows_per_second:,.0f} rows/s in batches",
            f"  resume      exact: stopped at step {trained.stopped} of {trained.total}; the {trained.rows} rows drawn",
            "              and every weight are as without a stop",
            f"  accuracy    {trained.accuracy:.3f} on held-out digits",
            "lineage of the model, from its sources",
            *lineage_of(model),
            f"done in {time.monotonic() - begun:.0f} s. Look at it in Dagster's UI: make ui",
        ]
    )


def lineage_of(model: Path) -> list[str]:
    """Returns a line for each run that led to the model: what it read, and what it wrote."""
    graph = lineage(model, down=0)
    read: dict[str, list[str]] = {}
    written: dict[str, list[str]] = {}
    orders: dict[str, str] = {}
    for edge in graph.edges:
        if edge.kind == "read":
            read.setdefault(edge.target, []).append(graph.node(edge.source).label)
            if "seed" in edge.facts:
                orders[edge.target] = f" in the order of seed {edge.facts['seed']}, {edge.facts['epoch'] + 1} epochs"
        elif edge.kind == "wrote":
            written.setdefault(edge.source, []).append(graph.node(edge.target).label)
    lines = []
    for run in sorted(
        (node for node in graph.nodes if node.kind == "run"), key=lambda each: (each.steps, each.at or 0)
    ):
        sources = ", ".join(read.get(run.id, ())) or "files"
        lines.append(f"  {run.label:24} {sources} -> {', '.join(written.get(run.id, ()))}{orders.get(run.id, '')}")
    return lines


@contextmanager
def step(title: str) -> Iterator[None]:
    """Names what is being done, for who watches and for when it fails."""
    say(title)
    try:
        yield
    except BaseException:
        say(f"FAILED: {title}")
        raise


def say(text: str) -> None:
    print(f"[{time.monotonic() - begun:5.1f} s] {text}", flush=True)


def wait_for(condition: str, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise DemoError(f"waited {PATIENCE_SECONDS:.0f} s for {condition} in vain")
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
