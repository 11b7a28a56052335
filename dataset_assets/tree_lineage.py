"""The lineage of file trees: a tree with a parent of another dataset is shown behind that dataset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from dataset_assets.dataset import DatasetSpec
from lakefeed.routines import Routine
from lakefeed.trees import parent_datasets


def with_parents(
    specs: Sequence[DatasetSpec], routines: Sequence[Routine], existing: Iterable[str]
) -> list[DatasetSpec]:
    """Returns the datasets with the datasets of their trees' parents as upstreams.

    An upstream that would close a circle is left out, because Dagster shows none.

    Args:
        specs: the datasets.
        routines: the routines that write some of them.
        existing: the names of datasets in the catalog.
    """
    known = {spec.name for spec in specs}
    parents = parent_datasets([name for name in existing if name in known])
    upstreams = {spec.name: list(spec.upstreams) for spec in specs}
    above: dict[str, list[str]] = {name: list(each) for name, each in upstreams.items()}
    for routine in routines:
        above.setdefault(routine.target, []).extend(routine.sources)
    for name, others in parents.items():
        for other in others:
            if other in known and other not in upstreams[name] and not _leads_to(other, name, above):
                upstreams[name].append(other)
                above[name].append(other)
    return [replace(spec, upstreams=upstreams[spec.name]) if spec.name in parents else spec for spec in specs]


def _leads_to(start: str, end: str, above: Mapping[str, Sequence[str]]) -> bool:
    """Returns whether ``end`` is ``start`` or above it."""
    waiting, visited = [start], {start}
    while waiting:
        name = waiting.pop()
        if name == end:
            return True
        new = [each for each in above.get(name, ()) if each not in visited]
        visited.update(new)
        waiting += new
    return False
