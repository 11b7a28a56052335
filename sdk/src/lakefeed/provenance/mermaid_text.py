"""A lineage as mermaid text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from lakefeed.provenance.lineage_graph import Lineage, LineageNode
from lakefeed.provenance.lineage_picture import FILLS, nearest

SHAPES: Final[Mapping[str, tuple[str, str]]] = {
    "version": ("[", "]"),
    "run": ("([", "])"),
    "code": ("{{", "}}"),
    "file": ("[/", "/]"),
    "column": ("[", "]"),
}
ARROWS: Final[Mapping[str, str]] = {"read": "-->", "wrote": "-->", "previous": "-.->", "copy": "-.->", "code": "-.->"}
SPECIAL = re.compile(r"[^\w .,:@+()/-]")


def mermaid_text(lineage: Lineage) -> str:
    """Returns the graph as mermaid text, with as many nodes as the picture has."""
    shown = nearest(lineage)
    names = {node.id: f"n{number}" for number, node in enumerate(shown)}
    lines = ["flowchart LR"]
    lines += [f"  {names[node.id]}{_shape(node)}:::{node.kind}" for node in shown]
    for edge in lineage.edges:
        if edge.source in names and edge.target in names:
            lines.append(f"  {names[edge.source]} {ARROWS[edge.kind]} {names[edge.target]}")
    left_out = len(lineage.nodes) - len(shown)
    if left_out:
        lines.append(f'  more["and {left_out:,} more nodes"]')
    lines += [f"  classDef {kind} fill:{fill},stroke:{line},color:#1f2933" for kind, (fill, line) in FILLS.items()]
    return "\n".join(lines) + "\n"


def _shape(node: LineageNode) -> str:
    opening, closing = SHAPES[node.kind]
    state = f" ({node.state})" if node.state in ("trash", "deleted", "expired", "failed", "aborted", "lost") else ""
    return f'{opening}"{_plain(node.label + state)}"{closing}'


def _plain(text: str) -> str:
    """Returns text in which characters that mermaid reads as its own are entities."""
    return SPECIAL.sub(lambda match: f"#{ord(match[0])};", text)
