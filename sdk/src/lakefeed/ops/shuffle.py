"""Shuffle: the rows in a seeded random order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pyarrow as pa

from lakefeed._rng import choose_seed
from lakefeed._units import MIB
from lakefeed._validate import check_flag, is_whole
from lakefeed.errors import InvalidArgumentError
from lakefeed.plan import Input, Node
from lakefeed.plan.order import Arrangement
from lakefeed.plan.walk import transform

WINDOW_ROWS = 10_000
WINDOW_BYTES = 64 * MIB
"""A window that nobody chose holds no more than this."""


@dataclass(frozen=True, eq=False, repr=False)
class Shuffle(Node):
    """The order of :mod:`lakefeed.plan.order` with the seed ``seed + epoch``; ``window`` None: global.

    ``window_bytes``: a window has fewer rows if ``window`` rows take more bytes; None: it has ``window`` rows.
    ``arrangement``: of the partitions. Streams have no partitions and do not use it.
    """

    child: Node
    seed: int
    window: int | None
    epoch: int = 0
    window_bytes: int | None = None
    arrangement: Arrangement = "mixed"

    keeps_columns: ClassVar[bool] = True

    @classmethod
    def of(cls, child: Node, seed: int | None, global_: Any, window: int | None) -> Shuffle:
        """Returns the node of ``shuffle``. Draws a seed where none is given.

        Raises:
            InvalidArgumentError: an argument is invalid.
        """
        shuffle_seed = choose_seed(seed)
        if window is not None and (not is_whole(window) or window < 1):
            raise InvalidArgumentError(f"shuffle window must be a whole number of at least 1, got {window!r}")
        if check_flag(global_, "global_"):
            return cls(child, shuffle_seed, None)
        if window is None:
            return cls(child, shuffle_seed, WINDOW_ROWS, window_bytes=WINDOW_BYTES)
        return cls(child, shuffle_seed, int(window))

    @property
    def uses_disk(self) -> bool:
        return self.window is None

    def output_schema(self) -> pa.Schema:
        return self.child.schema

    def fields_read(self) -> tuple[()]:
        return ()

    def narrow(self, wanted: frozenset[str]) -> tuple[Node, frozenset[str]]:
        return self, wanted

    def execute(self, inputs: Sequence[Input]) -> Iterator[pa.RecordBatch]:
        return inputs[0].shuffled(self.seed + self.epoch, self.window, self.window_bytes, self.arrangement)

    def identity(self) -> dict[str, object]:
        """Returns the seed and the window; an epoch is not another plan."""
        arranged = {} if self.arrangement == "mixed" else {"arrangement": self.arrangement}
        return {"seed": self.seed, "window": self.window, **arranged}

    def describe(self) -> str:
        scope = "global" if self.window is None else f"window={self.window}"
        return f"Shuffle seed={self.seed}{f' epoch={self.epoch}' if self.epoch else ''} {scope}"


def with_epoch(plan: Node, epoch: int) -> Node:
    """Returns the plan with all its shuffles in this epoch."""
    return transform(plan, lambda node: replace(node, epoch=epoch) if isinstance(node, Shuffle) else node)
