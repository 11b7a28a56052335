"""Progress bars: on a terminal only, and not where ``TQDM_DISABLE`` is set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
from tqdm import tqdm


def tracked(batches: Iterable[pa.RecordBatch], what: str, total: int | None = None) -> Iterator[pa.RecordBatch]:
    """The batches, with their rows shown as they go by."""
    with tqdm(desc=what, total=total, unit=" rows", unit_scale=True, disable=None) as bar:
        for batch in batches:
            yield batch
            bar.update(batch.num_rows)
