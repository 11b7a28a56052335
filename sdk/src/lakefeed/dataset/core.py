"""The state of a dataset, and the seam through which other packages see plans and make datasets of them."""

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
    """Rows in a lake: of a plan, or of the version of a named dataset that a pin says."""

    _lake: Lake
    _node: Node | None
    _name: str | None
    _version: Pin | None
    _identity: Identity

    _complete: ClassVar[bool] = True
    """Whether these are all rows of the version, where there is a name."""

    @property
    def name(self) -> str:
        """The name in the lake.

        Raises:
            UnsavedDatasetError: it is derived, or was never saved.
        """
        if self._name is None:
            raise UnsavedDatasetError(
                "this dataset is derived from others or was never saved, so it has no name, version or description; "
                "save(name) gives it one, or ask the dataset that it was made from"
            )
        return self._name

    @property
    def version(self) -> int:
        """The version that is read now (the newest one where none was pinned)."""
        return self._reference.resolved().version

    @property
    def schema(self) -> pa.Schema:
        """The columns and their types."""
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
    """Returns the plan that gives the rows of a dataset.

    Raises:
        InvalidArgumentError: it is not a dataset; the message names the method that got it.
    """
    if not isinstance(dataset, Core):
        raise InvalidArgumentError(f"{method} takes a Dataset, not {dataset!r:.80}")
    return dataset._plan


def plans_of(datasets: Any, method: str) -> tuple[Node, ...]:
    """Returns the plans of several datasets.

    Raises:
        InvalidArgumentError: it is not a list of datasets; the message names the method that got it.
    """
    given = list(datasets) if is_list(datasets) else []
    if not given or not all(isinstance(each, Core) for each in given):
        raise InvalidArgumentError(f"{method} takes a list of at least one Dataset, not {datasets!r:.80}")
    return tuple(each._plan for each in given)


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


def build(
    kind: type[AnyDataset],
    lake: Lake,
    node: Node | None,
    name: str | None = None,
    version: Pin | None = None,
    table_uuid: str = "",
) -> AnyDataset:
    """Returns a dataset of a class from its parts, with no look at the lake."""
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
