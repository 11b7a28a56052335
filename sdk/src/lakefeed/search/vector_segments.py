"""Segments of indexes of vectors: they are written, merged and searched."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from cachetools import LRUCache

from lakefeed._arrow import compute as pc
from lakefeed._units import MIB
from lakefeed.search.index_ledger import IndexLedger, IndexState
from lakefeed.search.key_text import decode_keys
from lakefeed.search.local_files import local_folder, read_local_files
from lakefeed.search.text_segments import Hits, best_hits
from lakefeed.search.vector_files import (
    FLAT_ROWS,
    Mask,
    OpenSegments,
    OpenVersion,
    Segment,
    SegmentList,
    write_segment,
)
from lakefeed.search.vector_schema import KEY, Matrix, VectorSchema, faiss

SEGMENT_BYTES: Final = 512 * MIB
"""The most bytes of the vectors of a segment."""
TIER: Final = 4
MERGED_SEGMENTS: Final = 4
"""So many segments of a tier are merged. Sizes of a tier are within a factor of `TIER`."""
REWRITTEN_SHARE: Final = 0.3
"""A segment of which this share of rows was removed is written again without them."""
MORE_HITS: Final = 8
MORE_LISTS: Final = 4
COVERED_SHARE: Final = 4
"""The lists that are searched have at least so many times the wanted rows."""
OPEN_VERSIONS: Final = 16

_segments = OpenSegments()
_versions: LRUCache[tuple[str, str, int], OpenVersion] = LRUCache(OPEN_VERSIONS)
_versions_lock = threading.Lock()

Part = tuple[pa.RecordBatch, Matrix]


@dataclass(frozen=True)
class VectorSegments:
    """Writes and searches the segments of one index of vectors."""

    schema: VectorSchema

    # ------------------------------------------------------------------ writing

    def write(self, folder: Path, removed: Iterable[str], added: Iterable[pa.RecordBatch], large: bool) -> list[str]:
        """Brings the segments in a folder up to date, and returns the names of the files that are needed from now on.

        Files that are there already are not changed. The arguments are those of `TextSegments.write`.
        """
        before = SegmentList.read(folder)
        keys = pa.array(list(removed), pa.large_string())
        segments = [each for old in before.segments if (each := _remove(folder, old, keys)).live_rows]
        width = before.width
        for rows, vectors in self._parts(added, width or None):
            width = vectors.shape[1]
            segments.append(write_segment(folder, rows, vectors, self.schema.metric))
        while group := _to_merge(segments, width):
            others = [each for each in segments if each not in group]
            rows, vectors = _joined([_live(folder, each) for each in group])
            segments = [*others, write_segment(folder, rows, vectors, self.schema.metric)]
        return SegmentList(width, tuple(segments)).write(folder)

    def _parts(self, added: Iterable[pa.RecordBatch], width: int | None) -> Iterator[Part]:
        """Yields the rows of new segments."""
        parts: list[Part] = []
        size = 0
        for batch in added:
            rows, vectors = self.schema.split(batch, width)
            if not len(vectors):
                continue
            width = vectors.shape[1]
            parts.append((rows, vectors))
            size += vectors.nbytes
            if size >= SEGMENT_BYTES:
                yield _joined(parts)
                parts, size = [], 0
        if parts:
            yield _joined(parts)

    # ------------------------------------------------------------------ searching

    def width(self, ledger: IndexLedger, state: IndexState) -> int | None:
        """Returns the number of values of a vector of the index; None if it has none."""
        return self.schema.width or _open(ledger, state).list.width or None

    def search(
        self,
        ledger: IndexLedger,
        state: IndexState,
        query: Matrix,
        nprobes: int,
        mask_of: Callable[[pa.RecordBatch], Mask] | None,
        top_k: int,
    ) -> Hits:
        """Returns the rows of the nearest vectors. Rows of equal score are in the order of their keys.

        Args:
            ledger: the index.
            state: its version.
            query: the vector.
            nprobes: the number of lists to search in large segments.
            mask_of: returns which rows may be found, from their filter fields; None for all.
            top_k: the number of rows.

        Raises:
            DamagedDatasetError: a file of the index is lost or damaged.
        """
        vector = self.schema.prepared(query[None, :])

        def read() -> tuple[list[str], list[Any]]:
            return _hits(_open(ledger, state), vector, nprobes, mask_of, top_k)

        texts, scores = read_local_files(ledger, state, read, partial(_close, ledger, state))
        values = np.concatenate(scores)
        if self.schema.metric == "l2":  # faiss gives squares
            values = 0 - np.sqrt(np.maximum(values, 0))  # without a negative zero
        return best_hits(decode_keys(texts, self.schema.key), values.astype(np.float32), top_k)


def _hits(
    version: OpenVersion,
    vector: Matrix,
    nprobes: int,
    mask_of: Callable[[pa.RecordBatch], Mask] | None,
    top_k: int,
) -> tuple[list[str], list[Any]]:
    """Returns the keys, as text, and the scores of the nearest rows of each segment."""
    texts: list[str] = []
    scores: list[Any] = [np.empty(0, np.float32)]
    for segment, removed in zip(version.list.segments, version.removed, strict=True):
        opened = _segments.get(version.folder, segment)
        chosen = ~removed if mask_of is None else ~removed & mask_of(opened.rows)
        positions, hit_scores = _nearest(opened.index, segment, vector, nprobes, chosen, top_k)
        keys: list[Any] = opened.rows.column(KEY).take(pa.array(positions)).to_pylist()
        texts += keys
        scores.append(hit_scores)
    return texts, scores


def _key(ledger: IndexLedger, state: IndexState) -> tuple[str, str, int]:
    return str(ledger.lake.settings.cache), state.ledger_uuid, state.snapshot_id


def _open(ledger: IndexLedger, state: IndexState) -> OpenVersion:
    key = _key(ledger, state)
    with _versions_lock:
        version = _versions.get(key)
    if version is None:
        folder = local_folder(ledger, state)
        version = OpenVersion(folder, SegmentList.read(folder))
        _ = version.removed
        with _versions_lock:
            _versions[key] = version
    return version


def _close(ledger: IndexLedger, state: IndexState) -> None:
    with _versions_lock:
        _versions.pop(_key(ledger, state), None)


def _nearest(index: Any, segment: Segment, query: Matrix, nprobes: int, chosen: Mask, top_k: int) -> tuple[Any, Any]:
    """Returns the positions and distances of the nearest rows, with all that are as near as the last one."""
    module, most = faiss(), int(chosen.sum())
    if not most:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    selector = None
    if most < segment.rows:
        bits = np.packbits(chosen, bitorder="little")
        selector = module.IDSelectorBitmap(bits)
    lists = 1 if segment.rows < FLAT_ROWS else int(index.nlist)
    # Where few rows are chosen, their neighbours are further away, and looking at a list costs less.
    wanted = max(nprobes * segment.scale * segment.rows, COVERED_SHARE * top_k * lists)
    probes = min(math.ceil(wanted / most), lists)
    limit = min(top_k + 1, most)
    while True:
        if segment.rows < FLAT_ROWS:
            parameters = module.SearchParameters(sel=selector)
        else:
            parameters = module.SearchParametersIVF(sel=selector, nprobe=probes)
        distances, positions = index.search(query, limit, params=parameters)
        there = positions[0] >= 0
        distances, positions = distances[0][there], positions[0][there]
        if len(positions) < limit and probes < lists:  # the chosen rows are in other lists
            probes = min(probes * MORE_LISTS, lists)
            continue
        complete = limit == most or len(positions) < limit
        if complete or distances[-1] != distances[top_k - 1]:
            if len(distances) > top_k:
                needed = distances == distances[top_k - 1]
                needed[:top_k] = True
                return positions[needed], distances[needed]
            return positions, distances
        limit = min(limit * MORE_HITS, most)


def _remove(folder: Path, segment: Segment, keys: Any) -> Segment:
    """Returns a segment without the rows of these keys."""
    if not len(keys):
        return segment
    mask = pc.is_in(segment.read_rows(folder).column(KEY), value_set=keys).to_numpy(zero_copy_only=False)
    removed = segment.read_removed(folder)
    if not (mask & ~removed).any():
        return segment
    return segment.remove(folder, removed | mask)


def _live(folder: Path, segment: Segment) -> Part:
    """Returns the rows of a segment that were not removed."""
    live = ~segment.read_removed(folder)
    return segment.read_rows(folder).filter(pa.array(live)), segment.read_vectors(folder)[live]


def _joined(parts: list[Part]) -> Part:
    if len(parts) == 1:
        return parts[0]
    rows = pa.Table.from_batches([rows for rows, _ in parts]).combine_chunks().to_batches()
    (batch,) = rows
    return batch, np.concatenate([vectors for _, vectors in parts])


def _to_merge(segments: list[Segment], width: int) -> list[Segment]:
    """Returns segments to write again as one: many of a tier, or one that has lost many rows; else none."""
    tiers: dict[int, list[Segment]] = {}
    for each in segments:
        if each.removed_rows >= REWRITTEN_SHARE * each.rows:
            return [each]
        if each.live_rows * width * 4 < SEGMENT_BYTES / MERGED_SEGMENTS:
            tiers.setdefault(int(math.log(each.live_rows, TIER)), []).append(each)
    return next((group for group in tiers.values() if len(group) >= MERGED_SEGMENTS), [])
