"""A lineage as an SVG picture: boxes in layers, coloured by kind."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final, NamedTuple

from lakefeed.provenance.graph_layers import arrange
from lakefeed.provenance.lineage_graph import Lineage, LineageEdge, LineageNode

MAX_NODES: Final = 200
LABEL_CHARS: Final = 34
CHARACTER: Final = 6.6
PADDING, GAP_X, GAP_Y, BOX_HEIGHT, MARGIN = 14.0, 46.0, 14.0, 38.0, 12.0
FILLS: Final[Mapping[str, tuple[str, str]]] = {
    "version": ("#e3f0fb", "#2f76b5"),
    "run": ("#fdf0d8", "#c07f16"),
    "code": ("#efeaf8", "#7456b3"),
    "file": ("#e2f4e6", "#2f8f4e"),
    "column": ("#e3f0fb", "#2f76b5"),
}
"""The fill and the line of a box, by kind."""
GONE: Final = ("deleted", "expired", "trash", "failed", "aborted", "lost")
FACT_CHARS: Final = 200
"""Characters of a fact, such as the parameters of a run, that a tooltip shows."""
FORBIDDEN: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""Characters that XML does not have."""
STYLE: Final = (
    "text{font-family:ui-sans-serif,system-ui,sans-serif;fill:#1f2933}"
    ".l{font-size:12px}.s{font-size:10px;fill:#616e7c}.e{fill:none;stroke:#9aa5b1;stroke-width:1.4}"
)


class _Box(NamedTuple):
    x: float
    y: float
    width: float
    height: float


def nearest(lineage: Lineage, most: int = MAX_NODES) -> tuple[LineageNode, ...]:
    """Returns the nodes that are shown: the nearest ones."""
    return tuple(sorted(lineage.nodes, key=lambda node: abs(node.steps))[:most])


def draw_svg(lineage: Lineage) -> str:
    """Returns the picture. It shows the nearest `MAX_NODES` nodes and counts the others."""
    shown = nearest(lineage)
    by_id = {node.id: node for node in shown}
    edges = [each for each in lineage.edges if each.source in by_id and each.target in by_id]
    layout = arrange(list(by_id), [(each.source, each.target) for each in edges])
    boxes, width, height = _place(layout.layers, by_id)
    left_out = len(lineage.nodes) - len(shown)
    if left_out:
        height += 18
    start = lineage.nodes[0].id if lineage.nodes else None
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
            f'height="{height:.0f}" role="img" aria-label="{_xml_text(repr(lineage))}">'
        ),
        f"<style>{STYLE}</style>",
        (
            '<defs><marker id="lakefeed-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto"><path d="M0 0L8 4L0 8z" fill="#9aa5b1"/></marker></defs>'
        ),
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        *(_draw_edge(each, boxes, layout.routes.get((each.source, each.target), ())) for each in edges),
        *(_draw_node(node, boxes[node.id], node.id == start) for node in shown),
    ]
    if left_out:
        parts.append(f'<text class="s" x="{MARGIN:.0f}" y="{height - 8:.0f}">and {left_out:,} more nodes</text>')
    return "".join([*parts, "</svg>"])


def _place(layers: Sequence[Sequence[str]], nodes: Mapping[str, LineageNode]) -> tuple[dict[str, _Box], float, float]:
    """Returns the box of each node and of each point of an edge, and the width and height of the picture."""
    heights = {each: BOX_HEIGHT if each in nodes else 0.0 for layer in layers for each in layer}
    height = max((_height(layer, heights) for layer in layers), default=BOX_HEIGHT) + 2 * MARGIN
    boxes: dict[str, _Box] = {}
    x = MARGIN
    for layer in layers:
        width = max(_width(nodes[each]) for each in layer if each in nodes)
        y = (height - _height(layer, heights)) / 2
        for each in layer:
            boxes[each] = _Box(x, y, width, heights[each])
            y += heights[each] + GAP_Y
        x += width + GAP_X
    return boxes, max(x - GAP_X + MARGIN, 2 * MARGIN), height


def _height(layer: Sequence[str], heights: Mapping[str, float]) -> float:
    return sum(heights[each] + GAP_Y for each in layer) - GAP_Y


def _width(node: LineageNode) -> float:
    return max(len(_cut(node.label)), len(_caption(node)) * 0.85) * CHARACTER + 2 * PADDING


def _cut(text: str, most: int = LABEL_CHARS) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _caption(node: LineageNode) -> str:
    """Returns the second line of a box."""
    if node.kind == "version":
        rows = node.facts.get("rows")
        return node.state if rows is None else f"{rows:,} rows" + ("" if node.state == "present" else f", {node.state}")
    if node.kind == "file":
        text = f"file, {node.facts['size']:,} bytes" if "size" in node.facts else "file"
        return text if node.state == "present" else f"{text}, {node.state}"
    return node.kind if node.state in ("present", "unknown") else f"{node.kind}, {node.state}"


def _draw_node(node: LineageNode, box: _Box, is_start: bool) -> str:
    fill, line = FILLS[node.kind]
    dashes = ' stroke-dasharray="4 3"' if node.state in GONE else ""
    radius = 19 if node.kind == "run" else 4
    return (
        f'<g><title>{_xml_text(_title(node))}</title><rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" '
        f'height="{BOX_HEIGHT:.0f}" rx="{radius}" fill="{fill}" stroke="{line}" '
        f'stroke-width="{2.6 if is_start else 1.2}"{dashes}/>'
        f'<text class="l" x="{box.x + PADDING:.1f}" y="{box.y + 16:.1f}">{_xml_text(_cut(node.label))}</text>'
        f'<text class="s" x="{box.x + PADDING:.1f}" y="{box.y + 30:.1f}">{_xml_text(_caption(node))}</text></g>'
    )


def _title(node: LineageNode) -> str:
    facts = (f"{name}: {_cut(_fact_text(value), FACT_CHARS)}" for name, value in node.facts.items())
    return "\n".join([_cut(node.label, FACT_CHARS), *facts])


def _fact_text(value: Any) -> str:
    """Returns a fact as text. Of the values of parameters, the beginning suffices."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={_cut(str(each), FACT_CHARS)}" for name, each in value.items())
    return str(value)


def _xml_text(text: str) -> str:
    return escape(FORBIDDEN.sub("\ufffd", text))


def _draw_edge(edge: LineageEdge, boxes: Mapping[str, _Box], route: Sequence[str]) -> str:
    """Draws an edge through the points of its route, which are between the boxes of the layers."""
    source, target = boxes[edge.source], boxes[edge.target]
    x, y = source.x + source.width, source.y + source.height / 2
    path = [f"M{x:.1f} {y:.1f}"]
    for point in (boxes[each] for each in route):
        path += [_curve(x, y, point.x, point.y), f"H{point.x + point.width:.1f}"]
        x, y = point.x + point.width, point.y
    path.append(_curve(x, y, target.x - 2, target.y + target.height / 2))
    dashes = ' stroke-dasharray="5 4"' if edge.kind in ("previous", "copy", "code") else ""
    return (
        f'<path class="e" d="{"".join(path)}" marker-end="url(#lakefeed-arrow)"{dashes}>'
        f"<title>{edge.kind}</title></path>"
    )


def _curve(x: float, y: float, end_x: float, end_y: float) -> str:
    bend = max(abs(end_x - x) / 2, 24.0)
    return f"C{x + bend:.1f} {y:.1f} {end_x - bend:.1f} {end_y:.1f} {end_x:.1f} {end_y:.1f}"
