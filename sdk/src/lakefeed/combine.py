"""Several datasets as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lakefeed import ops
from lakefeed._rng import choose_seed
from lakefeed._validate import check_flag
from lakefeed.catalog import lake
from lakefeed.dataset import Dataset, dataset_of, plans_of

if TYPE_CHECKING:
    from lakefeed.plan import Node
    from lakefeed.plan.interleave_order import Stopping


def concatenate(datasets: Sequence[Dataset], *, fill: bool = False) -> Dataset:
    """All rows of the first dataset, then all of the second, and so on.

    Args:
        datasets: at least one; columns go by name.
        fill: columns that some of them lack are null there; else that is an error.

    Raises:
        SchemaError, TypeMismatchError: the columns differ; the message names them.

    Example:
        >>> one, two = Dataset.from_dict({"x": [1]}), Dataset.from_dict({"x": [2]})
        >>> concatenate([one, two]).to_arrow()["x"].to_pylist()
        [1, 2]
    """
    return _dataset_of(ops.Concatenate(plans_of(datasets, "concatenate"), check_flag(fill, "fill")))


def interleave(
    datasets: Sequence[Dataset],
    probabilities: Sequence[float] | None = None,
    seed: int | None = None,
    stopping_strategy: Stopping = "first_exhausted",
    *,
    fill: bool = False,
) -> Dataset:
    """Rows drawn from several datasets: in turn, or by chance with ``probabilities``. Each keeps its own order.

    Args:
        datasets: at least one; columns go by name.
        probabilities: one for each dataset, 1 together; a dataset of probability 0 is never drawn from.
        seed: of the draws; None: one is drawn now and stays with the returned dataset.
        stopping_strategy: "first_exhausted": as soon as one has no more rows; "all_exhausted": when each has been
            exhausted once, those that were beginning anew; "all_exhausted_without_replacement": every row once.
        fill: as in `concatenate`.

    Raises:
        InvalidArgumentError, SchemaError, TypeMismatchError: at the call.

    Example:
        >>> one, two = Dataset.from_dict({"x": [1, 2, 3]}), Dataset.from_dict({"x": [10, 20]})
        >>> interleave([one, two]).to_arrow()["x"].to_pylist()
        [1, 10, 2, 20, 3]
    """
    plans = plans_of(datasets, "interleave")
    chances = None if probabilities is None else ops.check_probabilities(probabilities)
    return _dataset_of(ops.Interleave(plans, chances, choose_seed(seed), stopping_strategy, check_flag(fill, "fill")))


def _dataset_of(node: Node) -> Dataset:
    return dataset_of(lake.Lake.current(), node)
