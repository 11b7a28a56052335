"""The state of a dataset, and the functions that give other packages its plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import pyarrow as pa

from lakefeed import plan, run
from lakefeed._validate import is_list
from lakefeed.dataset.iterable_dataset import StreamedRows
from lakefeed.errors import InvalidArgumentError, UnsavedDatasetError
from lakefeed.run import dataset_reference

if TYPE_CHECKING:
    from lakefeed.catalog.lake import Lake
    from lakefeed.catalog.versions import DatasetVersion, Pin
    from lakefeed.dataset.dataset import Dataset
    from lakefeed.plan import Node
    from lakefeed.plan.walk import FlatNode
    from lakefeed.run import LocalRunner
    from lakefeed.run.dataset_reference import Identity, Reference

AnyDataset = TypeVar("AnyDataset", bound="Core")


class Core(StreamedRows):
    """Rows in a lake: those of a plan, or of a version of a named dataset."""

    _lake: Lake
    _node: Node | None
    _name: str | None
    _version: Pin | None
    _identity: Identity

    _complete: ClassVar[bool] = True
    """False where a name is known, but these are only some rows of its version."""

    @property
    def name(self) -> str:
        """The name in the lake.

        Raises:
            UnsavedDatasetError: the dataset is derived from others, or was never saved.
        """
        if self._name is None:
            raise UnsavedDatasetError(
                "this dataset is derived from others or was never saved, so it has no name, version or description; "
                "save it with save(name), or use the dataset that it was made from"
            )
        return self._name

    @property
    def version(self) -> int:
        """The version that is read: the pinned one, or else the newest.

        Raises:
            UnsavedDatasetError: the dataset is derived from others, or was never saved.
            DatasetNotFoundError, VersionNotFoundError: the dataset or the pinned version does not exist.
        """
        return self._reference.resolved().version

    @property
    def schema(self) -> pa.Schema:
        """The columns and their types.

        Raises:
            DatasetNotFoundError, VersionNotFoundError: the dataset or the pinned version does not exist.
        """
        return self._plan.schema

    @property
    def _plan(self) -> Node:
        if self._node is None and isinstance(self._version, int):  # a tag may move
            self._node = self._reference.scan()
        return self._reference.scan() if self._node is None else self._node

    @property
    def _reference(self) -> Reference:
        return dataset_reference.Reference(self._lake, self.name, self._version, self._identity)

    @property
    def _changed(self) -> str:
        return self._reference.changed()

    def _written(self, name: str, written: DatasetVersion) -> Dataset:
        return dataset_at(self._lake, name, written)

    @property
    def _runner(self) -> LocalRunner:
        return run.LocalRunner(self._lake.settings)

    @property
    def _itself(self) -> Dataset:
        return cast("Dataset", self)  # no other class inherits from the groups of methods

    def _derive(self, node: Node) -> Dataset:
        return dataset_of(self._lake, node)


def plan_of(dataset: Any, method: str) -> Node:
    """Returns the plan of a dataset's rows.

    Raises:
        InvalidArgumentError: this is not a dataset. The message names ``method``.
    """
    if not isinstance(dataset, Core):
        raise InvalidArgumentError(f"{method} takes a Dataset, not {dataset!r:.80}")
    return dataset._plan


def plans_of(datasets: Any, method: str) -> tuple[Node, ...]:
    """Returns the plans of several datasets.

    Raises:
        InvalidArgumentError: this is not a list of datasets. The message names ``method``.
    """
    items = list(datasets) if is_list(datasets) else []
    if not items or not all(isinstance(each, Core) for each in items):
        raise InvalidArgumentError(f"{method} takes a list of at least one Dataset, not {datasets!r:.80}")
    return tuple(each._plan for each in items)


def lake_of(dataset: Core) -> Lake:
    """Returns the lake that a dataset belongs to."""
    return dataset._lake


def dataset_of(lake: Lake, node: Node) -> Dataset:
    """Returns the rows of a plan as a dataset without a name."""
    from lakefeed.dataset.dataset import Dataset

    return build(Dataset, lake, node)


def dataset_at(lake: Lake, name: str, version: DatasetVersion) -> Dataset:
    """Returns a version of a dataset of the lake, as long as it is the same table."""
    from lakefeed.dataset.dataset import Dataset

    return build(Dataset, lake, None, name, version.version, version.table_uuid)


def dataset_named(lake: Lake, name: str, version: Pin | None = None, table_uuid: str = "") -> Dataset:
    """Returns a dataset of the lake."""
    from lakefeed.dataset.dataset import Dataset

    return build(Dataset, lake, None, name, version, table_uuid)


def build(
    kind: type[AnyDataset],
    lake: Lake,
    node: Node | None,
    name: str | None = None,
    version: Pin | None = None,
    table_uuid: str = "",
) -> AnyDataset:
    """Returns a dataset of class ``kind``, made from its parts without looking at the lake."""
    dataset = kind.__new__(kind)
    dataset._lake, dataset._node, dataset._name, dataset._version = lake, node, name, version
    dataset._identity = dataset_reference.Identity(table_uuid)
    return dataset


def unpickle(
    kind: type[AnyDataset],
    lake: Lake,
    flat: list[FlatNode] | None,
    name: str | None,
    version: Pin | None,
    table_uuid: str = "",
) -> AnyDataset:
    """Returns the dataset that was pickled as these parts."""
    return build(kind, lake, None if flat is None else plan.rebuild(flat), name, version, table_uuid)
