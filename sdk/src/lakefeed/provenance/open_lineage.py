"""Runs as events of OpenLineage (https://openlineage.io): RunEvents of the specification 2-0-2 with standard facets.

A version of a dataset is the dataset with the facet ``version``. Facts that no standard facet has are in the facet
``lakefeed``.
"""

from __future__ import annotations

import datetime as dt
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from lakefeed.provenance.lineage_graph import Lineage, LineageNode
from lakefeed.records.origin_facts import DAGSTER_PREFIX

PRODUCER: Final = "urn:lakefeed:sdk:openlineage:event"
SPEC: Final = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs"
FACETS: Final = "https://openlineage.io/spec/facets"
JOB_NAMESPACE: Final = "lakefeed"
DAGSTER_JOB: Final[Mapping[str, str]] = {"namespace": "dagster", "name": "__ASSET_JOB"}
"""The job of Dagster in which assets are materialized."""
ENDS: Final[Mapping[str, str]] = {
    "completed": "COMPLETE",
    "failed": "FAIL",
    "aborted": "ABORT",
    "lost": "ABORT",
    "unknown": "COMPLETE",
}


@dataclass(frozen=True)
class EventDataset:
    """A version of a dataset, or a file, in an event.

    Attributes:
        name: the name of the dataset, or the key of the file.
        version: the number of the version, or the SHA-256 of the file.
        columns: the names and types of the columns.
        rows: the number of rows; None if unknown.
        size: the bytes of a file; None for a dataset.
        facts: further facts of the read.
        sources: for each column, the columns of datasets that it is made of.
    """

    name: str
    version: str
    columns: Sequence[tuple[str, str]] = ()
    rows: int | None = None
    size: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, Sequence[tuple[str, str]]] | None = None


@dataclass(frozen=True)
class EventRun:
    """A run in an event.

    Attributes:
        id: the id of the run.
        name: the name, which is the job.
        namespace: the namespace of the datasets: the location of the lake.
        status: the state.
        started: the time of its beginning, in milliseconds since 1970 (UTC).
        finished: the time of its end; None if it has not ended, or if that is unknown.
        facts: further facts of the run.
        error: the error that ended it.
        parent: the id and the name of the run around it.
        kind: "JOB" for a run, "TASK" for a commit of a routine.
    """

    id: str
    name: str
    namespace: str
    status: str
    started: int
    finished: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    parent: tuple[str, str] | None = None
    kind: str = "JOB"


def run_id(text: str, name: str = "") -> str:
    """Returns the id of a run as a UUID, which the specification demands: itself, or one that follows from it.

    A run of Dagster may run several steps, each of which is a run of a job with a name.
    """
    if text.startswith(DAGSTER_PREFIX) and name:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"lakefeed:run:{text}:{name}"))
    try:
        return str(uuid.UUID(text.removeprefix(DAGSTER_PREFIX)))
    except ValueError:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"lakefeed:run:{text}"))


def start_event(run: EventRun, inputs: Iterable[EventDataset] = (), outputs: Iterable[EventDataset] = ()) -> Any:
    """Returns the event of the beginning of a run."""
    return _event("START", run.started, run, inputs, outputs)


def end_event(run: EventRun, inputs: Iterable[EventDataset], outputs: Iterable[EventDataset]) -> Any:
    """Returns the event of the end of a run."""
    at = run.started if run.finished is None else run.finished
    return _event(ENDS.get(run.status, "COMPLETE"), at, run, inputs, outputs)


def _event(
    kind: str, at: int, run: EventRun, inputs: Iterable[EventDataset], outputs: Iterable[EventDataset]
) -> dict[str, Any]:
    return {
        "eventType": kind,
        "eventTime": _time(at),
        "producer": PRODUCER,
        "schemaURL": f"{SPEC}/RunEvent",
        "run": {"runId": run_id(run.id, run.name), "facets": _run_facets(run)},
        "job": {"namespace": JOB_NAMESPACE, "name": run.name, "facets": _job_facets(run)},
        "inputs": [_input(each, run.namespace) for each in inputs],
        "outputs": [_output(each, run.namespace) for each in outputs],
    }


def _time(milliseconds: int) -> str:
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC).isoformat(timespec="milliseconds")


def _facet(schema: str, **values: Any) -> dict[str, Any]:
    return {"_producer": PRODUCER, "_schemaURL": schema, **values}


def _run_facets(run: EventRun) -> dict[str, Any]:
    facets = {
        "processing_engine": _facet(
            f"{FACETS}/1-1-0/ProcessingEngineRunFacet.json#/$defs/ProcessingEngineRunFacet",
            version=str(sys.modules["lakefeed"].__version__),
            name="lakefeed",
        ),
        "lakefeed": _facet(f"{SPEC}/RunFacet", run=run.id, **run.facts),
    }
    if run.error is not None:
        facets["errorMessage"] = _facet(
            f"{FACETS}/1-0-0/ErrorMessageRunFacet.json#/$defs/ErrorMessageRunFacet",
            message=run.error,
            programmingLanguage="Python",
        )
    parent = _parent(run)
    if parent is not None:
        schema = f"{FACETS}/1-0-1/ParentRunFacet.json#/$defs/ParentRunFacet"
        facets["parent"] = _facet(schema, **parent)
    return facets


def _parent(run: EventRun) -> dict[str, Any] | None:
    if run.parent is not None:
        outer, name = run.parent
        return {"run": {"runId": run_id(outer, name)}, "job": {"namespace": JOB_NAMESPACE, "name": name}}
    if run.id.startswith(DAGSTER_PREFIX):
        return {"run": {"runId": run_id(run.id)}, "job": DAGSTER_JOB}
    return None


def _job_facets(run: EventRun) -> dict[str, Any]:
    return {
        "jobType": _facet(
            f"{FACETS}/2-0-3/JobTypeJobFacet.json#/$defs/JobTypeJobFacet",
            processingType="BATCH",
            integration="LAKEFEED",
            jobType=run.kind,
        )
    }


def _dataset(dataset: EventDataset, namespace: str) -> dict[str, Any]:
    facets = {
        "version": _facet(
            f"{FACETS}/1-0-0/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet",
            datasetVersion=dataset.version,
        ),
        "dataSource": _facet(
            f"{FACETS}/1-0-0/DatasourceDatasetFacet.json#/$defs/DatasourceDatasetFacet", name=namespace, uri=namespace
        ),
    }
    if dataset.columns:
        facets["schema"] = _facet(
            f"{FACETS}/1-1-1/SchemaDatasetFacet.json#/$defs/SchemaDatasetFacet",
            fields=[{"name": name, "type": kind} for name, kind in dataset.columns],
        )
    if dataset.sources:
        facets["columnLineage"] = _facet(
            f"{FACETS}/1-0-1/ColumnLineageDatasetFacet.json#/$defs/ColumnLineageDatasetFacet",
            fields={
                name: {"inputFields": [{"namespace": namespace, "name": of, "field": column} for of, column in sources]}
                for name, sources in dataset.sources.items()
            },
        )
    return {"namespace": namespace, "name": dataset.name, "facets": facets}


def _input(dataset: EventDataset, namespace: str) -> dict[str, Any]:
    value = _dataset(dataset, namespace)
    if dataset.facts:
        value["inputFacets"] = {"lakefeed": _facet(f"{SPEC}/InputDatasetFacet", **dataset.facts)}
    return value


def _output(dataset: EventDataset, namespace: str) -> dict[str, Any]:
    value = _dataset(dataset, namespace)
    size = {} if dataset.size is None else {"size": dataset.size}
    if dataset.rows is not None:
        schema = "OutputStatisticsOutputDatasetFacet"
        counts = {"rowCount": dataset.rows, **size}
        statistics = _facet(f"{FACETS}/1-0-2/{schema}.json#/$defs/{schema}", **counts)
        value["outputFacets"] = {"outputStatistics": statistics}
    elif size:  # of a file, which has no rows; the statistics demand their number
        value["outputFacets"] = {"lakefeed": _facet(f"{SPEC}/OutputDatasetFacet", **size)}
    return value


def events_of(lineage: Lineage) -> list[dict[str, Any]]:
    """Returns the events of all runs of a lineage, oldest first: the beginning and, unless it still runs, the end."""
    nodes = {node.id: node for node in lineage.nodes}
    inputs: dict[str, list[EventDataset]] = {node.id: [] for node in lineage.nodes if node.kind == "run"}
    outputs: dict[str, list[EventDataset]] = {node_id: [] for node_id in inputs}
    for edge in lineage.edges:
        if edge.kind == "read" and edge.target in inputs:
            inputs[edge.target].append(_event_dataset(nodes[edge.source], edge.facts))
        elif edge.kind == "wrote":
            outputs[edge.source].append(_event_dataset(nodes[edge.target], {}))
    events: list[dict[str, Any]] = []
    for node_id in inputs:
        run = _event_run(nodes[node_id], nodes, lineage.namespace)
        events.append(start_event(run))
        if run.status != "running":
            events.append(end_event(run, inputs[node_id], outputs[node_id]))
    return sorted(events, key=lambda event: str(event["eventTime"]))


def _event_dataset(node: LineageNode, facts: Mapping[str, Any]) -> EventDataset:
    if node.kind == "file":
        return EventDataset(node.name, str(node.facts.get("sha256", "")), (), None, node.facts.get("size"), facts)
    rows = node.facts.get("rows")
    return EventDataset(node.name, str(node.version), node.columns, rows, None, facts, node.column_sources)


def _event_run(node: LineageNode, nodes: Mapping[str, LineageNode], namespace: str) -> EventRun:
    facts = {name: node.facts[name] for name in ("params", "code", "user", "routine") if name in node.facts}
    parent = node.facts.get("parent")
    outer = None if parent is None else nodes.get(f"run:{parent}")
    around = None if parent is None else (parent, parent)
    if outer is not None:
        around = str(outer.facts.get("external") or parent), outer.name
    return EventRun(
        str(node.facts.get("external") or node.facts.get("run", node.id)),
        node.name,
        namespace,
        node.state,
        node.at or 0,
        node.facts.get("finished"),
        facts,
        node.facts.get("error"),
        around,
        "TASK" if "routine" in node.facts else "JOB",
    )
