"""Results in memory."""

from __future__ import annotations

import warnings

import pyarrow as pa

from lakefeed.errors import BudgetExceededError
from lakefeed.plan import Node
from lakefeed.run.local import Local

MIB = 1 << 20
LARGE_RESULT_BYTES = 1 << 30


class LargeResultWarning(UserWarning):
    """A result of more than 1 GiB is being put into memory."""


def collect(runner: Local, plan: Node, max_bytes: int | None, warn: bool) -> pa.Table:
    """All rows as a table.

    Raises:
        BudgetExceededError: as soon as the rows take more than ``max_bytes``.
    """
    batches, held = [], 0
    for batch in runner.batches(plan):
        before, held = held, held + batch.nbytes
        if max_bytes is not None and held > max_bytes:
            raise BudgetExceededError(
                f"the result is larger than max_bytes={max_bytes:,}; select fewer columns or rows, stream it with "
                "batches(), or allow more"
            )
        if warn and max_bytes is None and before <= LARGE_RESULT_BYTES < held:
            warnings.warn(
                f"collect() is putting over {LARGE_RESULT_BYTES // MIB} MiB into memory; stream with batches(), or "
                "pass max_bytes or warn=False",
                LargeResultWarning,
                stacklevel=3,
            )
        batches.append(batch)
    return pa.Table.from_batches(batches, plan.schema)
