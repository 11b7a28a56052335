"""A scan as a stream of `datasets`, with an exact state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from datasets import DatasetInfo, IterableDataset

# The public interface cannot add a source whose state is more than a number of rows.
from datasets.iterable_dataset import _BaseExamplesIterable

from lakefeed._rng import permutation
from lakefeed.dataset.core import dataset_of
from lakefeed.keyed.key_ranges import Shard
from lakefeed.keyed.scan_loader import ShuffleConfig
from lakefeed.ops import Shuffle
from lakefeed.sources.huggingface_source import examples, features_of

if TYPE_CHECKING:
    from lakefeed.catalog.lake import Lake
    from lakefeed.dataset import Dataset
    from lakefeed.keyed.keyed_scan import Scan
    from lakefeed.plan import Node

_PASS = 1


def iterable_dataset(
    scan: Scan, shards: Sequence[Shard], shuffle: ShuffleConfig | None, infinite: bool
) -> IterableDataset:
    """Returns the rows of shards of a scan as a ``datasets.IterableDataset``."""
    whole = scan.as_dataset()
    features, schema = features_of(whole.load_files(), whole.schema)
    lake = scan.reader.base.lake
    parts = [ShardRows(lake, scan.plan_of_shards([shard]), number) for number, shard in enumerate(shards)]
    rows = ScanExamples(parts, schema, shuffle, infinite)
    return IterableDataset(rows, info=DatasetInfo(features=features))


@dataclass(frozen=True, eq=False)
class ShardRows:
    """The rows of a shard; ``number`` is that of the shard among all shards."""

    lake: Lake
    plan: Node
    number: int

    def from_row(self, start: int, shuffle: ShuffleConfig | None, turn: int) -> Dataset:
        """Returns the rows from one on, in the order that they have in a pass."""
        plan = self.plan
        if shuffle is not None and shuffle.buffer_size > 1:
            plan = Shuffle(plan, shuffle.seed, shuffle.buffer_size, turn, arrangement="in order")
        rows = dataset_of(self.lake, plan)
        return (rows.slice(start) if start else rows).load_files()


class ScanExamples(_BaseExamplesIterable):  # type: ignore[misc]  # datasets has no types
    """The rows of shards, in passes.

    Args:
        shards: the rows of each shard.
        schema: the columns, with their media types.
        shuffle: the order of each pass; None for that of the shards.
        infinite: whether a pass follows the last one.
    """

    def __init__(
        self, shards: Sequence[ShardRows], schema: pa.Schema, shuffle: ShuffleConfig | None, infinite: bool
    ) -> None:
        super().__init__()
        self._shards, self._schema, self._shuffle, self._infinite = list(shards), schema, shuffle, infinite
        self._sleep_on_threads_shutdown = False

    def _init_state_dict(self) -> dict[str, Any]:
        self._state_dict = {"pass": 0, "shard_idx": 0, "shard_example_idx": 0, "type": type(self).__name__}
        return self._state_dict

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        state: dict[str, Any] = self._state_dict or {"pass": 0, "shard_idx": 0, "shard_example_idx": 0}
        while True:
            fresh, rows = state["shard_idx"] == state["shard_example_idx"] == 0, 0
            for key, row in self._pass(state):
                rows += 1
                yield key, row
            if not self._infinite or (fresh and not rows):
                return
            state.update({"pass": state["pass"] + 1, "shard_idx": 0, "shard_example_idx": 0})

    def _pass(self, state: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        turn, order = state["pass"], self._order(state["pass"])
        while state["shard_idx"] < len(order):
            shard = self._shards[order[state["shard_idx"]]]
            for row in examples(shard.from_row(state["shard_example_idx"], self._shuffle, turn), self._schema):
                state["shard_example_idx"] += 1
                yield f"{turn}_{shard.number}_{state['shard_example_idx']}", row
            state.update({"shard_idx": state["shard_idx"] + 1, "shard_example_idx": 0})

    def _order(self, turn: int) -> list[int]:
        count = len(self._shards)
        return (
            list(range(count))
            if self._shuffle is None
            else permutation(count, self._shuffle.seed, _PASS, turn).tolist()
        )

    def shuffle_data_sources(self, generator: np.random.Generator) -> ScanExamples:
        """Returns the rows with their shards in another order in each pass."""
        seed = int(deepcopy(generator).integers(1 << 31))
        shuffle = ShuffleConfig(seed) if self._shuffle is None else replace(self._shuffle, seed=seed)
        return ScanExamples(self._shards, self._schema, shuffle, self._infinite)

    def shard_data_sources(self, num_shards: int, index: int, contiguous: bool = True) -> ScanExamples:
        """Returns the rows of one of so many parts of the shards."""
        chosen = self.split_shard_indices_by_worker(num_shards, index, contiguous=contiguous)
        return ScanExamples([self._shards[each] for each in chosen], self._schema, self._shuffle, self._infinite)

    def reshard_data_sources(self) -> ScanExamples:
        """Returns itself: the shards are not divided further."""
        return self

    @property
    def num_shards(self) -> int:
        """The number of shards."""
        return len(self._shards)
