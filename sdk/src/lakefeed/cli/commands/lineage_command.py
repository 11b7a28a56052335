"""``lakefeed lineage``: what a dataset was made of, and what was made of it."""

from __future__ import annotations

import click

import lakefeed
from lakefeed.cli.cell_text import Column
from lakefeed.cli.invocation import Invocation, write
from lakefeed.cli.references import NAME
from lakefeed.cli.shared_options import lake_command

COLUMNS = (
    Column("steps"),
    Column("kind"),
    Column("name"),
    Column("version", "version"),
    Column("state"),
    Column("at", "time"),
    Column("from", "list"),
)


@lake_command("lineage")
@click.argument("of", metavar="NAME", type=NAME)
@click.option("--up", is_flag=True, help="Show only what it was made of.")
@click.option("--down", is_flag=True, help="Show only what was made of it.")
@click.option("-n", "--steps", type=click.IntRange(min=0), help="Show at most this many steps in each direction.")
@click.option("--mermaid", is_flag=True, help="Write the graph as mermaid text.")
@click.option("--svg", is_flag=True, help="Write the graph as an SVG picture.")
@click.option("--openlineage", is_flag=True, help="Write the runs as a JSON list of OpenLineage events.")
def lineage_command(
    invocation: Invocation,
    of: str,
    up: bool,
    down: bool,
    steps: int | None,
    mermaid: bool,
    svg: bool,
    openlineage: bool,
) -> None:
    """Show what something was made of, and what was made of it.

    NAME is a dataset or a version (photos, photos@7, photos@stable), a column that a routine computes (photos.width),
    the id of a run, or the path or name of a file that a run has registered.
    """
    if mermaid + svg + openlineage > 1:
        raise click.UsageError("choose one of --mermaid, --svg and --openlineage")
    both = up == down
    graph = lakefeed.lineage(of, steps if up or both else 0, steps if down or both else 0)
    if (mermaid or svg) and invocation.json:
        invocation.write_json({"mermaid": graph.mermaid} if mermaid else {"svg": graph.svg})
    elif mermaid or svg:
        write(graph.mermaid if mermaid else graph.svg + "\n")
    elif openlineage:
        invocation.write_json(graph.openlineage())
    elif invocation.json:
        invocation.write_json(graph.to_json())
    else:
        sources: dict[str, list[str]] = {node.id: [] for node in graph.nodes}
        for edge in graph.edges:
            sources[edge.target].append(graph.node(edge.source).label)
        nodes = sorted(graph.nodes, key=lambda node: node.steps)
        invocation.write_table(
            COLUMNS,
            ((each.steps, each.kind, each.name, each.version, each.state, each.at, sources[each.id]) for each in nodes),
        )
