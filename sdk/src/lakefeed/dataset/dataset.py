"""The one class that people use: a lazy, immutable reference to rows."""

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
    """Rows of a dataset in the lake, of files or of memory, and what is made of them.

    Lazy: nothing is read or run before rows are asked for, and every operation returns a new Dataset.

    A reference without a version follows the dataset: it reads the newest version there is. What is derived from it
    (``filter``, ``select``, …) stays with the version that was newest when it was derived, so that one training run
    reads one version.

    Args:
        name: the dataset's name: ``photos``, or ``team.photos`` in another namespace.
        version: the version to read, for ever the same rows, or a tag (see `tag`); None: the newest.
        as_of: read the version that was the newest at that time: a datetime with a time zone, or milliseconds since
            1970.

    What was resolved once (a pin, a tag, what ``save`` returned, what is derived) stays with its table: once the
    dataset is deleted, reading it is an error, also where another one was made under the name.

    A version is read with the columns that it was written with; the newest rows come with the columns that the dataset
    has now, which `add_column` and its like change without making a version.

    Raises:
        InvalidNameError, InvalidArgumentError: at once. That there is no such dataset or version shows when it is read.

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
    """A version of the dataset while it is that very table; an error once it is another one."""
    return build(Dataset, lake.Lake.current(), None, name, version, table_uuid)
