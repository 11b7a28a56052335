"""Keeps the rows of a plan in a local Arrow file, ``<cache>/mapped/<fingerprint>/``, for ``Dataset.mapped``.

The fingerprint covers the snapshots and everything that the plan does, so the file never becomes stale. Where that is
impossible (a generator, a function that holds a connection), the rows are those of one call, in a folder that is
removed with the process.
"""

from __future__ import annotations

import atexit
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from lakefeed._units import MIB
from lakefeed.caching.atomic_folder import Folder, Group, check_folder
from lakefeed.catalog.lake import Lake
from lakefeed.errors import InvalidArgumentError
from lakefeed.ops import Scan
from lakefeed.optimize import bind_files
from lakefeed.plan import Lineage, Node, exact_fingerprint, fingerprint, lineage
from lakefeed.plan.row_bytes import cut_by_bytes
from lakefeed.plan.take_rows import detach_views
from lakefeed.run import LocalRunner
from lakefeed.run.progress import tracked
from lakefeed.run.rebatch import join_groups
from lakefeed.run.spill import stream_writer
from lakefeed.sources.mapped_source import MappedSource, align
from lakefeed.storage.disk.atomic_write import new_file, sync_file

PART_BYTES = 16 * MIB
MAX_PART_BYTES = 4 * PART_BYTES
ROWS_MULTIPLE = 1_024
"""Batch sizes that are powers of two divide the rows of every part but the last."""


@dataclass(frozen=True)
class ArrowFolder(Folder):
    """A folder of rows in the Arrow IPC format."""

    suffix: ClassVar[str] = "arrow"

    def _write_rows(self, path: Path, schema: pa.Schema, groups: Iterable[Group]) -> list[tuple[int, int]]:
        parts = []
        with new_file(path) as sink:
            for group in groups:
                begin = sink.tell()
                with stream_writer(sink, schema) as writer:
                    for batch in group.rows.to_batches():
                        writer.write_batch(batch)
                size = sink.tell() - begin
                sink.write(bytes(align(size) - size))
                parts.append((group.rows.num_rows, size))
            sync_file(sink)
        return parts


def map_rows(lake: Lake, plan: Node, path: str | os.PathLike[str] | None) -> Node:
    """Returns a scan of the plan's rows in a local, memory-mapped file, which is written unless it exists.

    Raises:
        InvalidArgumentError: the rows at ``path`` are those of another plan.
    """
    check_folder(path, "mapped")
    plan = bind_files(plan)
    exact = exact_fingerprint(plan)
    identity = exact or fingerprint(plan)
    parent = lake.settings.cache / "mapped"
    if path is not None:
        location = Path(path).expanduser().absolute()
    elif exact is not None:
        location = parent / exact
    else:
        location = parent / f"call-{uuid.uuid4().hex}"
        atexit.register(_remove, location, os.getpid())
    folder = ArrowFolder(location)
    with folder.locked():
        # Another process may have been faster.
        manifest = folder.manifest()
        if manifest is None:
            facts = {"fingerprint": identity, "lineage": lineage(plan).to_json()}
            manifest = folder.write(plan.schema, plan.schema.names, lambda: _groups(lake, plan), facts)
        elif manifest.facts["fingerprint"] != identity:
            raise InvalidArgumentError(
                f"mapped(path={str(path)!r}): the rows there are of another plan or version; give a new folder"
            )
    origin = Lineage.from_json(manifest.facts["lineage"])
    file = location / manifest.file
    return Scan(MappedSource(file, manifest.schema, f"mapped:{identity}", origin, manifest.parts, exact is not None))


def _remove(location: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(location, ignore_errors=True)


def _groups(lake: Lake, plan: Node) -> Iterator[Group]:
    """Yields parts of about `PART_BYTES`, all but the last with the same number of rows."""
    held: list[pa.RecordBatch] = []
    rows = size = step = 0
    with closing(LocalRunner(lake.settings).batches(plan)) as batches:
        for batch in tracked(batches, "map rows"):
            held.append(batch)
            rows, size = rows + batch.num_rows, size + batch.nbytes
            if not step and size >= PART_BYTES:
                step = max(rows * PART_BYTES // size // ROWS_MULTIPLE, 1) * ROWS_MULTIPLE
            while step and (rows >= step or size >= MAX_PART_BYTES):
                table = pa.Table.from_batches(held)
                yield from _parts(table.slice(0, step))
                held = table.slice(step).to_batches()
                rows, size = max(rows - step, 0), sum(batch.nbytes for batch in held)
    if rows:
        yield from _parts(pa.Table.from_batches(held))


def _parts(rows: pa.Table) -> Iterator[Group]:
    """Yields the rows as one part, or as several if they are large: a part is mapped, and read, as one batch."""
    cuts = (cut for batch in rows.to_batches() for cut in cut_by_bytes(batch, MAX_PART_BYTES))
    for batch in join_groups(map(detach_views, cuts), MAX_PART_BYTES):
        yield Group(pa.Table.from_batches([batch]))
