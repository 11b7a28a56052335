"""`Dataset`, a lazy and immutable reference to rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lakefeed import plan
from lakefeed.catalog import lake, version_arguments
from lakefeed.dataset.administration import Administration
from lakefeed.dataset.constructors import Constructors
from lakefeed.dataset.core import build, unpickle
from lakefeed.dataset.reading import Reading
from lakefeed.dataset.writes import Writes
from lakefeed.run import dataset_reference

if TYPE_CHECKING:
    import datetime as dt


class Dataset(Constructors, Reading, Writes, Administration):
    """Rows of a dataset in the lake, of files or of memory, and operations on them.

    A Dataset is lazy: it reads and runs nothing before rows are requested, and every operation returns a new Dataset.

    A Dataset without a version follows the newest version. Datasets derived from it (``filter``, ``select``, …) stay
    with the version that was the newest when they were derived, so a training run reads one version.

    A pinned version, a tag, the result of ``save`` and everything derived from them stay with their table. Once that
    table is deleted, reading is an error, even if another dataset of the same name exists.

    A version is read with the columns that it was written with. The newest rows are read with the current columns,
    which `add_column` and its relatives change without making a version.

    Args:
        name: the name of the dataset: ``photos``, or ``team.photos`` in another namespace.
        version: the number or the tag of the version to read, or its label if it is a file tree. A number always gives
            the same rows. None reads the newest version.
        as_of: read the version that was the newest at this time, given as a datetime with a time zone or as
            milliseconds since 1970.

    Raises:
        InvalidNameError: the name breaks the naming rule.
        InvalidArgumentError: the version or the time is malformed. A dataset or version that does not exist is an error
            only when it is read.

    Example:
        >>> digits = Dataset.from_dict({"id": [1, 2, 3], "label": [7, 2, 7]}).save("digits")
        >>> Dataset("digits", version=1).filter("label == 7").select(["id"]).to_arrow().to_pydict()
        {'id': [1, 3]}
    """

    def __init__(self, name: str, *, version: int | str | None = None, as_of: dt.datetime | int | None = None) -> None:
        self._lake = lake.Lake.current()
        self._lake.identifier(name)
        self._name = name
        self._version, self._identity = version_arguments.check_version(version, as_of), dataset_reference.Identity()
        self._node = None

    def __reduce__(self) -> tuple[Callable[..., Dataset], tuple[Any, ...]]:
        flat = None if self._node is None else plan.flatten(self._node)
        return unpickle, (type(self), self._lake, flat, self._name, self._version, self._identity.table_uuid)


def pinned_dataset(name: str, version: int, table_uuid: str) -> Dataset:
    """Returns a version of a dataset. Reading it raises an error once the name belongs to another table."""
    return build(Dataset, lake.Lake.current(), None, name, version, table_uuid)
