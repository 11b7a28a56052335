"""The files of segments of vectors: an index of faiss, the rows with their keys, and which of them were removed."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from cachetools import LRUCache
from numpy.typing import NDArray

from lakefeed.search.vector_schema import Matrix, faiss

META: Final = "segments.json"
FLAT_ROWS: Final = 10_000
"""Segments of fewer rows are searched vector by vector."""
DEFAULT_PROBES: Final = 16
NEIGHBOURS: Final = 10
SAMPLE: Final = 64
RECALL: Final = 0.997
TRAINED_ROWS: Final = 128
"""Lists are placed by so many vectors for each of them. With twice as many, searches find no more."""
OPEN_SEGMENTS: Final = 64

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Segment:
    """A segment.

    Attributes:
        id: the beginning of the names of its files.
        rows: the number of rows.
        removed: the name of the file with the removed rows; empty if there are none.
        removed_rows: their number.
        scale: this many lists are searched for each of `nprobes`, so that the default finds what is near.
    """

    id: str
    rows: int
    removed: str = ""
    removed_rows: int = 0
    scale: float = 1.0

    @property
    def live_rows(self) -> int:
        """The number of rows that were not removed."""
        return self.rows - self.removed_rows

    @property
    def files(self) -> list[str]:
        """The names of the files."""
        return [self.vectors_file, self.rows_file, *([self.removed] if self.removed else [])]

    @property
    def vectors_file(self) -> str:
        """The file of the vectors."""
        return f"{self.id}.faiss"

    @property
    def rows_file(self) -> str:
        """The file of the rows."""
        return f"{self.id}.arrow"

    def read_removed(self, folder: Path) -> Mask:
        """Returns which rows were removed."""
        if not self.removed:
            return np.zeros(self.rows, np.bool_)
        bits = np.frombuffer((folder / self.removed).read_bytes(), np.uint8)
        return np.unpackbits(bits, count=self.rows, bitorder="little").astype(np.bool_)

    def remove(self, folder: Path, removed: Mask) -> Segment:
        """Returns the segment with these removed rows."""
        name = f"{self.id}.{uuid.uuid4().hex[:8]}.removed"
        (folder / name).write_bytes(np.packbits(removed, bitorder="little").tobytes())
        return replace(self, removed=name, removed_rows=int(removed.sum()))

    def read_rows(self, folder: Path) -> pa.RecordBatch:
        """Returns the rows: the keys as text, and the filter fields."""
        with pa.memory_map(str(folder / self.rows_file)) as source:
            return pa.ipc.open_file(source).get_batch(0)

    def read_vectors(self, folder: Path) -> Matrix:
        """Returns the vectors of all rows."""
        index = faiss().read_index(str(folder / self.vectors_file))
        if self.rows < FLAT_ROWS:
            return index.reconstruct_n(0, self.rows)  # type: ignore[no-any-return]
        index.make_direct_map()
        return index.reconstruct_n(0, self.rows)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class SegmentList:
    """The segments of a version of an index, and the width of its vectors; 0 if it has none."""

    width: int
    segments: tuple[Segment, ...]

    @classmethod
    def read(cls, folder: Path) -> SegmentList:
        """Returns the segments in a folder; none if it is empty."""
        if not (folder / META).exists():
            return cls(0, ())
        facts = json.loads((folder / META).read_bytes())
        return cls(facts["width"], tuple(Segment(**each) for each in facts["segments"]))

    def write(self, folder: Path) -> list[str]:
        """Writes the list, and returns the names of all files that are needed."""
        (folder / META).unlink(missing_ok=True)
        (folder / META).write_text(
            json.dumps({"width": self.width, "segments": [asdict(each) for each in self.segments]})
        )
        return [META, *(name for segment in self.segments for name in segment.files)]


def write_segment(folder: Path, rows: pa.RecordBatch, vectors: Matrix, metric: str) -> Segment:
    """Writes a segment."""
    segment = Segment(uuid.uuid4().hex, len(vectors))
    index, scale = _build(vectors, metric)
    faiss().write_index(index, str(folder / segment.vectors_file))
    with pa.OSFile(str(folder / segment.rows_file), "wb") as target, pa.ipc.new_file(target, rows.schema) as writer:
        writer.write_batch(rows)
    return replace(segment, scale=scale)


def _build(vectors: Matrix, metric: str) -> tuple[Any, float]:
    """Returns an index of faiss, and the scale of its probes."""
    module = faiss()
    width = vectors.shape[1]
    kind = module.METRIC_L2 if metric == "l2" else module.METRIC_INNER_PRODUCT
    flat = module.IndexFlat(width, kind)
    if len(vectors) < FLAT_ROWS:
        flat.add(vectors)
        return flat, 1.0
    index = module.IndexIVFFlat(flat, width, round(len(vectors) ** 0.5), kind)
    order = np.random.default_rng(0).permutation(len(vectors))
    index.train(vectors[order[SAMPLE : SAMPLE + TRAINED_ROWS * index.nlist]])
    index.add(vectors)
    return index, _probe_scale(index, vectors, order[:SAMPLE], kind)


def _probe_scale(index: Any, vectors: Matrix, sample: Any, kind: int) -> float:
    """Returns how many lists must be searched for each of the default, so that neighbours are found.

    The lists were placed without the vectors of the sample, which are like queries therefore.
    """
    module = faiss()
    neighbours = module.knn(vectors[sample], vectors, NEIGHBOURS + 1, metric=kind)[1]
    quantizer = index.quantizer
    lists = quantizer.search(vectors[sample], index.nlist)[1]
    homes = quantizer.search(vectors[neighbours.ravel()], 1)[1].reshape(neighbours.shape)
    order = np.empty_like(lists)
    np.put_along_axis(order, lists, np.arange(index.nlist)[None, :], axis=1)
    needed = np.take_along_axis(order, homes, axis=1)[neighbours != sample[:, None]] + 1
    return max(1.0, float(np.quantile(needed, RECALL)) / DEFAULT_PROBES)


@dataclass(frozen=True, eq=False)
class OpenSegment:
    """A segment in memory."""

    rows: pa.RecordBatch
    index: Any


class OpenSegments:
    """Segments that this process has opened. They are immutable, so versions of an index share them."""

    def __init__(self) -> None:
        self._open: LRUCache[str, OpenSegment] = LRUCache(OPEN_SEGMENTS)
        self._lock = threading.Lock()

    def get(self, folder: Path, segment: Segment) -> OpenSegment:
        """Returns a segment."""
        with self._lock:
            opened = self._open.get(segment.id)
        if opened is None:
            vectors = faiss().read_index(str(folder / segment.vectors_file))
            opened = OpenSegment(segment.read_rows(folder), vectors)
            with self._lock:
                self._open[segment.id] = opened
        return opened


@dataclass(frozen=True, eq=False)
class OpenVersion:
    """The segments of a version of an index, with what was removed from them."""

    folder: Path
    list: SegmentList

    @cached_property
    def removed(self) -> Sequence[Mask]:
        """The removed rows of each segment."""
        return [each.read_removed(self.folder) for each in self.list.segments]
