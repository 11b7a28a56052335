"""The graph of a lineage: its nodes and edges, as data, as a picture, as text, and as events of OpenLineage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import pyarrow as pa

NodeKind: TypeAlias = Literal["version", "run", "code", "file", "column"]
EdgeKind: TypeAlias = Literal["read", "wrote", "previous", "copy", "code"]


@dataclass(frozen=True, slots=True)
class LineageNode:
    """A node of a lineage.

    Attributes:
        id: the id of the node in the graph.
        kind: "version" of a dataset, "run", "code" of a run, "file" that a run has registered, or "column"
            of a dataset.
        name: the name of the dataset, run, code or file.
        label: a short text for people, such as "photos v7".
        version: the number of the version; None for other kinds.
        state: for a version "present", "trash", "expired", "deleted", or "unknown" of another lake; for a file
            "present", "trash" or "deleted"; for a run its status; else "present".
        steps: the number of steps from the node that was asked for: negative for what it was made of, positive for
            what was made of it.
        at: the time of its commit, beginning or registration, in milliseconds since 1970 (UTC); None if unknown.
        facts: further facts, such as the number of rows, or the parameters of a run.
        columns: the names and types of the columns of a version.
        column_sources: for each column of a version, the columns of datasets that it is made of, if the commit says so.
    """

    id: str
    kind: NodeKind
    name: str
    label: str
    version: int | None = None
    state: str = "present"
    steps: int = 0
    at: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict, compare=False)
    columns: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)
    column_sources: Mapping[str, Sequence[tuple[str, str]]] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class LineageEdge:
    """An edge of a lineage: ``target`` was made of ``source``.

    Attributes:
        source: the id of the node that comes first.
        target: the id of the node that comes after it.
        kind: a run "read" a version, or "wrote" a version or a file; "code" of a run; "previous" version of the same
            dataset; "copy" of a version of another dataset.
        facts: of a read the fingerprint of the plan, the seed, the epoch, and the version after which it began.
    """

    source: str
    target: str
    kind: EdgeKind
    facts: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Lineage:
    """A graph of versions, runs, code and files: the sources of something, and its uses.

    In a notebook it is shown as a picture.

    Attributes:
        nodes: the nodes; the one that was asked for is the first.
        edges: the edges.
        namespace: the namespace of the datasets in events of OpenLineage: the location of the lake.
    """

    nodes: tuple[LineageNode, ...]
    edges: tuple[LineageEdge, ...]
    namespace: str = "lakefeed"

    def node(self, node_id: str) -> LineageNode:
        """Returns the node of an id.

        Raises:
            KeyError: there is none.
        """
        return self._by_id[node_id]

    @property
    def _by_id(self) -> dict[str, LineageNode]:
        return {each.id: each for each in self.nodes}

    @property
    def table(self) -> pa.Table:
        """One row for each node, with the ids of the nodes that it was made of."""
        import pyarrow as pa

        sources: dict[str, list[str]] = {each.id: [] for each in self.nodes}
        for edge in self.edges:
            sources[edge.target].append(edge.source)
        return pa.table(
            {
                "id": pa.array([each.id for each in self.nodes], pa.string()),
                "kind": pa.array([each.kind for each in self.nodes], pa.string()),
                "name": pa.array([each.name for each in self.nodes], pa.string()),
                "version": pa.array([each.version for each in self.nodes], pa.int64()),
                "state": pa.array([each.state for each in self.nodes], pa.string()),
                "steps": pa.array([each.steps for each in self.nodes], pa.int64()),
                "at": pa.array([each.at for each in self.nodes], pa.timestamp("ms", "UTC")),
                "sources": pa.array([sources[each.id] for each in self.nodes], pa.list_(pa.string())),
            }
        )

    @property
    def mermaid(self) -> str:
        """The graph as mermaid text, which GitHub and many editors draw."""
        from lakefeed.provenance.mermaid_text import mermaid_text

        return mermaid_text(self)

    @property
    def svg(self) -> str:
        """The graph as an SVG picture. It shows at most 200 nodes, the nearest ones, and counts the others."""
        from lakefeed.provenance.lineage_picture import draw_svg

        return draw_svg(self)

    def openlineage(self) -> list[dict[str, Any]]:
        """Returns the runs as events of OpenLineage, oldest first: plain values, of which JSON can be made."""
        from lakefeed.provenance.open_lineage import events_of

        return events_of(self)

    def to_json(self) -> dict[str, Any]:
        """Returns the nodes and edges as plain values."""
        nodes = [each.name for each in fields(LineageNode) if each.name not in ("columns", "column_sources")]
        edges = [each.name for each in fields(LineageEdge)]
        return {
            "nodes": [{name: getattr(node, name) for name in nodes} for node in self.nodes],
            "edges": [{name: getattr(edge, name) for name in edges} for edge in self.edges],
        }

    def _repr_html_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        first = self.nodes[0].label if self.nodes else "nothing"
        return f"Lineage of {first}: {len(self.nodes)} nodes, {len(self.edges)} edges"
