"""The walk over the index: the nodes and edges that belong to the lineage of something."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from lakefeed.provenance.lineage_graph import EdgeKind, Lineage, LineageEdge, LineageNode
from lakefeed.provenance.origin_index import DataKey, FileKey, Origin, OriginIndex, RunKey, VersionKey

SHORT_CHARS = 12


@dataclass
class LineageWalk:
    """Collects the nodes and edges of one lineage.

    A run links a version only with what the run had read before it wrote that version, so a walk passes through a run
    from one output to its own inputs.
    """

    index: OriginIndex
    nodes: dict[str, LineageNode] = field(default_factory=dict)
    edges: dict[tuple[str, str, EdgeKind], LineageEdge] = field(default_factory=dict)
    _writers: dict[DataKey, str | None] = field(default_factory=dict)

    def lineage(self, starts: Iterable[DataKey | RunKey], up: int | None, down: int | None) -> Lineage:
        """Returns the lineage of some versions, files or runs. ``up`` and ``down``: the most steps; None for all."""
        begin = list(starts)
        for key in begin:
            if isinstance(key, RunKey):
                self._add_run(key.id, 0)
            else:
                self._add_data(key, 0)
        self._walk_up(begin, up)
        self._walk_down(begin, down)
        return Lineage(tuple(self.nodes.values()), tuple(self.edges.values()))

    def _walk_up(self, begin: list[DataKey | RunKey], most: int | None) -> None:
        queue: deque[tuple[DataKey, int]] = deque()
        seen: set[DataKey] = set()
        for key in begin:
            if not isinstance(key, RunKey):
                queue.append((key, 0))
            elif most != 0:
                for origin in self.index.inputs_of_run(key.id):
                    self._add_data(origin.source, -1)
                    self._link_read(origin, key.id)
                    queue.append((origin.source, 1))
        while queue:
            key, steps = queue.popleft()
            if key in seen or (most is not None and steps >= most):
                continue
            seen.add(key)
            run = self._add_writer(key, -steps)
            for origin in self.index.origins(key):
                self._add_data(origin.source, -steps - 1)
                self._link(origin, key, run)
                queue.append((origin.source, steps + 1))

    def _walk_down(self, begin: list[DataKey | RunKey], most: int | None) -> None:
        queue: deque[tuple[DataKey, int]] = deque()
        seen: set[DataKey] = set()
        for key in begin:
            if not isinstance(key, RunKey):
                queue.append((key, 0))
            elif most != 0:
                for output in self.index.outputs.get(key.id, ()):
                    self._add_data(output, 1)
                    self._add_writer(output, 0)
                    queue.append((output, 1))
        while queue:
            key, steps = queue.popleft()
            if key in seen or (most is not None and steps >= most):
                continue
            seen.add(key)
            for output, origin in self.index.uses(key):
                self._add_data(output, steps + 1)
                self._link(origin, output, self._add_writer(output, steps + 1))
                queue.append((output, steps + 1))
            if isinstance(key, FileKey):
                for run in self.index.file_readers.get(key.uid, ()):
                    self._add_run(run, steps + 1)
                    self._link_read(Origin(key, "read"), run)
            else:
                for run, read in self.index.readers.get(key, ()):
                    if (_data_id(key), _run_id(run), "read") in self.edges:
                        continue
                    self._add_run(run, steps + 1)
                    self._link_read(Origin(key, "read", read.since), run)

    def _add_data(self, key: DataKey, steps: int) -> None:
        node_id = _data_id(key)
        if node_id not in self.nodes:
            self.nodes[node_id] = self._file(key, steps) if isinstance(key, FileKey) else self._version(key, steps)

    def _version(self, key: VersionKey, steps: int) -> LineageNode:
        table, version = self.index.tables.get(key.table), self.index.version(key)
        read = self.index.reads.get(key)
        name = table.name if table is not None else read.dataset if read is not None else f"table {key.table}"
        state = "unknown" if table is None else table.state  # of another lake, or deleted without a record
        facts: dict[str, Any] = {"table": key.table}
        if (version is None or version.is_gone) and state == "present":
            state = "expired"
        if version is None:
            return LineageNode(_data_id(key), "version", name, f"{name} v{key.number}", key.number, state, steps, None)
        facts |= {"snapshot": version.snapshot, "rows": version.rows, "user": version.user, "message": version.message}
        facts |= {"label": version.label, "run": version.run, "code": version.code, "routine": version.routine}
        label = f"{name} {version.label}" if version.label else f"{name} v{key.number}"
        known = {name: value for name, value in facts.items() if value is not None}
        return LineageNode(
            _data_id(key),
            "version",
            name,
            label,
            key.number,
            state,
            steps,
            version.at,
            known,
            version.schema,
            version.columns,
        )

    def _file(self, key: FileKey, steps: int) -> LineageNode:
        file = self.index.registry.files.get(key.uid)
        if file is None:
            return LineageNode(_data_id(key), "file", key.uid, key.uid, state="deleted", steps=steps)
        facts = {"sha256": file.sha256, "size": file.size, "run": file.run}
        return LineageNode(
            _data_id(key), "file", file.name, file.name, state=file.state, steps=steps, at=file.at, facts=facts
        )

    def _add_writer(self, key: DataKey, steps: int) -> str | None:
        """Adds the run, or else the code, that wrote a version or file. Returns the id of the run."""
        if key not in self._writers:
            self._writers[key] = self._find_writer(key, steps)
        return self._writers[key]

    def _find_writer(self, key: DataKey, steps: int) -> str | None:
        if isinstance(key, VersionKey) and self.index.original_of(key) is not None:
            return None
        run = self.index.run_of(key)
        if run is not None:
            self._add_run(run, steps)
            self._add_edge(_run_id(run), _data_id(key), "wrote")
            return run
        version = self.index.version(key) if isinstance(key, VersionKey) else None
        if version is not None and version.code is not None:
            self._add_code(version.code, steps)
            self._add_edge(_code_id(version.code), _data_id(key), "code")
        return None

    def _add_run(self, run: str, steps: int) -> None:
        node_id = _run_id(run)
        if node_id in self.nodes:
            return
        record = self.index.registry.runs.get(run)
        version = next(
            (self.index.version(key) for key in self.index.outputs.get(run, ()) if isinstance(key, VersionKey)), None
        )
        routine = None if version is None else version.routine
        code = record.code if record is not None else None
        if code is None and version is not None:
            code = f"routine {routine}" if routine is not None else version.code
        if record is not None and record.name:
            facts: dict[str, Any] = {"params": dict(record.params), "finished": record.finished, "user": record.user}
            facts |= {"error": record.error, "parent": record.parent, "run": run, "code": code}
            facts["external"] = record.external if record.external != run else None
            name, state, at = record.name, record.status, record.started
        else:
            name = f"routine {routine}" if routine is not None else _short(run)
            state, at, facts = "unknown", None if version is None else version.at, {"run": run, "code": code}
        facts = {key: value for key, value in facts.items() if value not in (None, {})}
        if routine is not None:
            facts["routine"] = routine
        self.nodes[node_id] = LineageNode(node_id, "run", name, name, None, state, steps, at, facts)
        if code is not None:
            self._add_code(code, steps)
            self._add_edge(_code_id(code), node_id, "code")

    def _add_code(self, code: str, steps: int) -> None:
        node_id = _code_id(code)
        if node_id not in self.nodes:
            name = code.split(" sha256:")[0].split(" git:")[0]
            self.nodes[node_id] = LineageNode(node_id, "code", name, name, steps=steps, facts={"code": code})

    def _link(self, origin: Origin, output: DataKey, run: str | None) -> None:
        if origin.kind == "read" and run is not None:
            self._link_read(origin, run)
            return
        kind: EdgeKind = "copy" if origin.kind == "copy" else "previous" if origin.kind == "previous" else "read"
        self._add_edge(_data_id(origin.source), _data_id(output), kind)

    def _link_read(self, origin: Origin, run: str) -> None:
        source = _data_id(origin.source)
        if (source, _run_id(run), "read") in self.edges:
            return
        self._add_run(run, self.nodes[source].steps)
        read = self._read_of(origin, run)
        facts = {"since": origin.since, "plan": read and read.plan, "seed": read and read.seed}
        facts["epoch"] = read.epoch if read is not None else None
        known = {name: value for name, value in facts.items() if value is not None}
        self._add_edge(source, _run_id(run), "read", known)

    def _read_of(self, origin: Origin, run: str) -> Any:
        key = origin.source
        if not isinstance(key, VersionKey):
            return None
        recorded = self.index.reads_of_run(run)
        return recorded.get((key.table, key.number))

    def _add_edge(self, source: str, target: str, kind: EdgeKind, facts: dict[str, Any] | None = None) -> None:
        self.edges.setdefault((source, target, kind), LineageEdge(source, target, kind, facts or {}))


def _data_id(key: DataKey) -> str:
    return f"file:{key.uid}" if isinstance(key, FileKey) else f"version:{key.table}:{key.number}"


def _run_id(run: str) -> str:
    return f"run:{run}"


def _code_id(code: str) -> str:
    # Outside of a run, nobody asks git whether files differ.
    return f"code:{code.removesuffix('+dirty')}"


def _short(text: str) -> str:
    return text if len(text) <= SHORT_CHARS + 1 else f"{text[:SHORT_CHARS]}…"
