"""Draw the lineage of a file that a run has registered, such as the model of the demo.

    python examples/lineage_picture.py .lakefeed/demo/training/resumed/model.pt docs/images/lineage.svg

The picture in the documentation is of the demo: `make screenshots` makes it.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import lakefeed

SHOWN = ("rows", "size")


def main() -> None:
    model, target = map(Path, sys.argv[1:])
    graph = lakefeed.lineage(model, down=0)
    # Tooltips have all facts, also paths and users, which are different on each machine.
    nodes = [
        replace(node, facts={name: value for name, value in node.facts.items() if name in SHOWN})
        for node in graph.nodes
    ]
    target.write_text(replace(graph, nodes=tuple(nodes)).svg, encoding="utf-8")


if __name__ == "__main__":
    main()
