"""The façade: `Dataset`, and the functions through which other packages see plans and make datasets.

Only this package uses the attributes of a dataset that begin with an underscore. `plan_of`, `plans_of` and `lake_of`
give plans and lakes. `dataset_of` and `dataset_at` make a dataset of them.
"""

from lakefeed.dataset.changed_rows import AddedRows, RemovedRows, rows_changed_after
from lakefeed.dataset.core import dataset_at, dataset_of, lake_of, plan_of, plans_of
from lakefeed.dataset.core import unpickle as _restored  # of pickles that older releases wrote
from lakefeed.dataset.dataset import Dataset, pinned_dataset
from lakefeed.dataset.mapped_dataset import MappedDataset

__all__ = [
    "AddedRows",
    "Dataset",
    "MappedDataset",
    "RemovedRows",
    "_restored",
    "dataset_at",
    "dataset_of",
    "lake_of",
    "pinned_dataset",
    "plan_of",
    "plans_of",
    "rows_changed_after",
]
