"""`lineage`: what something was made of, and what was made of it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from lakefeed._validate import check_whole
from lakefeed.catalog.lake import Lake
from lakefeed.provenance import column_origins, tracked_run
from lakefeed.provenance.event_transport import lake_namespace
from lakefeed.provenance.fact_loader import FactLoader
from lakefeed.provenance.lineage_graph import Lineage
from lakefeed.provenance.lineage_keys import keys_of, lineage_subject, roots_of
from lakefeed.provenance.lineage_walk import LineageWalk


def lineage(x: Any, up: int | None = None, down: int | None = None) -> Lineage:
    """Returns what something was made of, and what was made of it: versions, runs, their code, and files.

    The commits of the lake say it, for versions of every writer, and the registry has the runs and their files.
    Datasets that were renamed have their new names; deleted ones and expired versions stay in the graph.

    Args:
        x: a dataset, or the name of one (the newest version, or all versions of a deleted one); ``"photos@7"`` or
            ``"photos@stable"``; a version as `Dataset.list_versions` returns it; a `Run`, or the id of one; a file as
            `Run.log_file` returns it, or the path of one that was registered, which is found by its content; a record
            of `lakefeed.registry`. Of a dataset that is derived from others, it is the lineage of those.
            ``"photos.width"`` is a column, as far as the commits of routines say what it is made of.
        up: the most steps towards what it was made of. 0 is none, None is all.
        down: the most steps towards what was made of it. 0 is none, None is all.

    Raises:
        DatasetNotFoundError: nothing of that name is known.
        VersionNotFoundError: the dataset has no such version.
        InvalidArgumentError: an argument is malformed.

    Example:
        >>> _ = Dataset.from_dict({"x": [1, 2, 3]}).save("numbers")
        >>> with track("doubling"):
        ...     _ = Dataset("numbers").with_column("y", "x * 2").save("doubles")
        >>> [node.label for node in lineage("doubles", down=0).nodes if node.kind in ("version", "run")]
        ['doubles v1', 'doubling', 'numbers v1']
    """
    most_up = None if up is None else check_whole(up, "up")
    most_down = None if down is None else check_whole(down, "down")
    subject, lake = lineage_subject(x)
    return Lineages.read(lake).of(subject, most_up, most_down)


@dataclass(frozen=True)
class Lineages:
    """The lineages in a lake, for several questions. What is connected with a question is read when it is asked."""

    lake: Lake
    facts: FactLoader

    @classmethod
    def read(cls, lake: Lake | None = None) -> Lineages:
        """Returns the lineages of a lake (None: the current one)."""
        lake = Lake.current() if lake is None else lake
        tracked_run.flush_all()
        return cls(lake, FactLoader(lake))

    def of(self, x: Any, up: int | None = None, down: int | None = None) -> Lineage:
        """Returns the lineage of something, as `lineage` does."""
        subject, _ = lineage_subject(x)
        roots = roots_of(subject)
        with _cyclic_collector_paused():
            index = self.facts.index(roots, up, down)
            column = column_origins.find_column(index, subject) if isinstance(subject, str) else None
            if column is not None:
                graph = column_origins.ColumnWalk(index).lineage(column, up, down)
            else:
                graph = LineageWalk(index).lineage(keys_of(self.lake, index, subject), up, down)
        return replace(graph, namespace=lake_namespace(self.lake))


@contextmanager
def _cyclic_collector_paused() -> Iterator[None]:
    """Pauses Python's collector of cycles, which would traverse all objects of the process several times.

    A graph of ten thousand nodes has hundreds of thousands of objects, and none of them is garbage.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
