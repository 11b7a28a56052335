"""Functions that make one dataset of several."""

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
    """Returns all rows of the first dataset, then all rows of the second, and so on.

    Args:
        datasets: at least one dataset. Columns are matched by name.
        fill: fill columns that a dataset lacks with null. Otherwise a missing column is an error.

    Raises:
        SchemaError, TypeMismatchError: the columns differ. The message names them.
        InvalidArgumentError: this is not a list of datasets.

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
    """Returns rows of several datasets in turn, or at random with ``probabilities``. Each dataset keeps its order.

    Args:
        datasets: at least one dataset. Columns are matched by name.
        probabilities: one probability for each dataset, with the sum 1. A dataset of probability 0 gives no rows.
        seed: the seed of the random choice. None draws a seed now, which stays with the returned dataset.
        stopping_strategy: "first_exhausted" ends with the first dataset that has no more rows. "all_exhausted" ends
            when each has ended once; a dataset that ends earlier starts again. "all_exhausted_without_replacement"
            gives every row once.
        fill: as in `concatenate`.

    Raises:
        InvalidArgumentError: the probabilities, the seed or the strategy are malformed.
        SchemaError, TypeMismatchError: the columns differ. The message names them.

    Example:
        >>> one, two = Dataset.from_dict({"x": [1, 2, 3]}), Dataset.from_dict({"x": [10, 20]})
        >>> interleave([one, two]).to_arrow()["x"].to_pylist()
        [1, 10, 2, 20, 3]
    """
    plans = plans_of(datasets, "interleave")
    chances = None if probabilities is None else ops.check_probabilities(probabilities)
    chosen = 0 if chances is None and seed is None else choose_seed(seed)  # drawing in turn needs none
    return _dataset_of(ops.Interleave(plans, chances, chosen, stopping_strategy, check_flag(fill, "fill")))


def _dataset_of(node: Node) -> Dataset:
    return dataset_of(lake.Lake.current(), node)
