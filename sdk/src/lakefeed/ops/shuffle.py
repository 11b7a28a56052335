"""Shuffle: the rows in a seeded random order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pyarrow as pa

from lakefeed._rng import choose_seed
from lakefeed._validate import check_flag, is_whole
from lakefeed.errors import InvalidArgumentError
from lakefeed.plan import Input, Node
from lakefeed.plan.walk import transform


@dataclass(frozen=True, eq=False, repr=False)
class Shuffle(Node):
    """The order of :mod:`lakefeed.plan.order` with the seed ``seed + epoch``; ``window`` None: global."""

    child: Node
    seed: int
    window: int | None
    epoch: int = 0

    keeps_columns: ClassVar[bool] = True

    @classmethod
    def of(cls, child: Node, seed: int | None, global_: Any, window: int) -> Shuffle:
        """Returns the node of ``shuffle``; without a seed a random one is shuffle_seed.

        Raises:
            InvalidArgumentError: an argument is invalid.
        """
        shuffle_seed = choose_seed(seed)
        if not is_whole(window) or window < 1:
            raise InvalidArgumentError(f"shuffle window must be a whole number of at least 1, got {window!r}")
        return cls(child, shuffle_seed, None if check_flag(global_, "global_") else int(window))

    def output_schema(self) -> pa.Schema:
        return self.child.schema

    def fields_read(self) -> tuple[()]:
        return ()

    def narrow(self, wanted: frozenset[str]) -> tuple[Node, frozenset[str]]:
        return self, wanted

    def execute(self, inputs: Sequence[Input]) -> Iterator[pa.RecordBatch]:
        return inputs[0].shuffled(self.seed + self.epoch, self.window)

    def identity(self) -> dict[str, object]:
        """Returns the seed and the window; an epoch is not another plan."""
        return {"seed": self.seed, "window": self.window}

    def describe(self) -> str:
        scope = "global" if self.window is None else f"window={self.window}"
        return f"Shuffle seed={self.seed}{f' epoch={self.epoch}' if self.epoch else ''} {scope}"


def with_epoch(plan: Node, epoch: int) -> Node:
    """Returns the plan with all its shuffles in this epoch."""
    return transform(plan, lambda node: replace(node, epoch=epoch) if isinstance(node, Shuffle) else node)
