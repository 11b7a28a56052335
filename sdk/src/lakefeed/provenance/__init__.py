"""Provenance: runs with their code, inputs and outputs, and lineages of versions, runs and files."""

from typing import TYPE_CHECKING

from lakefeed._lazy import lazy_attributes

if TYPE_CHECKING:
    from lakefeed.provenance.lineage_entry import Lineages, lineage
    from lakefeed.provenance.lineage_graph import Lineage, LineageEdge, LineageNode
    from lakefeed.provenance.tracked_files import LoggedFile
    from lakefeed.provenance.tracked_run import Run, current, track

__all__ = [
    "Lineage",
    "LineageEdge",
    "LineageNode",
    "Lineages",
    "LoggedFile",
    "Run",
    "current",
    "lineage",
    "track",
]

if not TYPE_CHECKING:  # else a type checker would take any name
    __getattr__ = lazy_attributes(
        __name__,
        {
            "lineage_entry": ("Lineages", "lineage"),
            "lineage_graph": ("Lineage", "LineageEdge", "LineageNode"),
            "tracked_files": ("LoggedFile",),
            "tracked_run": ("Run", "current", "track"),
        },
    )
