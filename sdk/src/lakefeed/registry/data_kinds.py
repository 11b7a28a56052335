"""The kinds of data that records are made of, told by their types only: nothing is read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from lakefeed import _paths
from lakefeed.arrays.memory_cells import is_anndata
from lakefeed.dataset import Dataset as Rows
from lakefeed.errors import CredentialsError, InvalidArgumentError
from lakefeed.registry import frame_index
from lakefeed.storage.urls import display_url, expand_home, holds_credentials, local_path, suffix

if TYPE_CHECKING:
    from lakefeed.registry.file_records import File


@dataclass(frozen=True, eq=False)
class TableData:
    """A DataFrame, an Arrow table or a `lakefeed.Dataset`."""

    value: Any

    def rows(self) -> Rows:
        """Returns the rows as a dataset.

        Raises:
            TypeMismatchError: a column of a DataFrame holds values of several types.
        """
        if isinstance(self.value, Rows):
            return self.value
        if isinstance(self.value, pa.Table):
            return Rows.from_arrow(self.value)
        return Rows.from_pandas(frame_index.name_index(self.value))

    @property
    def index(self) -> list[tuple[str, str | None]]:
        """The columns that are the index of a DataFrame; see `index_columns`."""
        return [] if isinstance(self.value, Rows | pa.Table) else frame_index.index_columns(self.value)


@dataclass(frozen=True, eq=False)
class AnnotatedData:
    """An AnnData object."""

    value: Any


@dataclass(frozen=True)
class LocalData:
    """A local file or folder."""

    path: str

    @property
    def is_folder(self) -> bool:
        """True if the path is that of a folder now, or ends as one."""
        return self.path.endswith("/") or os.path.isdir(self.path)  # noqa: PTH112

    @property
    def name(self) -> str:
        """The name of the file or folder."""
        return self.path.rstrip("/").rpartition("/")[2]


@dataclass(frozen=True)
class RemoteData:
    """A file or folder elsewhere."""

    url: str

    @property
    def is_folder(self) -> bool:
        """True if the URL ends as that of a folder, or its name has no suffix."""
        return self.url.endswith("/") or not suffix(self.name)

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self.url.partition("?")[0].partition("#")[0].rstrip("/").rpartition("/")[2]


@dataclass(frozen=True)
class FilesData:
    """Files in order."""

    files: tuple[File, ...]


SingleData: TypeAlias = TableData | AnnotatedData | LocalData | RemoteData
AnyData: TypeAlias = SingleData | FilesData


def check_data(data: Any) -> SingleData:
    """Returns the kind of the data of a file.

    Raises:
        InvalidArgumentError: the type is not supported, or the path is empty.
        CredentialsError: a URL holds credentials.
    """
    if isinstance(data, Rows | pa.Table) or _is_frame(data):
        return TableData(data)
    if is_anndata(data):
        return AnnotatedData(data)
    if isinstance(data, str | os.PathLike):
        return _check_location(os.fspath(data))
    raise InvalidArgumentError(
        "data must be a DataFrame, an Arrow table, a lakefeed.Dataset, an AnnData, a path or a URL, got "
        f"{type(data).__name__}: {data!r:.80}"
    )


def check_dataset_data(data: Any) -> AnyData:
    """Returns the kind of the data of a dataset: as `check_data`, or a list of files.

    Raises:
        InvalidArgumentError: the type is not supported, or the list is empty or has something else than files.
    """
    if isinstance(data, list | tuple):
        return FilesData(_check_files(data))
    return FilesData((data,)) if _is_file(data) else check_data(data)


def _check_files(items: Sequence[Any]) -> tuple[File, ...]:
    others = [each for each in items if not _is_file(each)]
    if others or not items:
        given = repr(others[0])[:80] if others else "an empty list"
        raise InvalidArgumentError(f"a list of data must have Files only, and at least one of them; got {given}")
    return tuple(items)


def _is_file(value: Any) -> bool:
    from lakefeed.registry.file_records import File

    return isinstance(value, File)


def _is_frame(value: Any) -> bool:
    return any(kind.__name__ == "DataFrame" and kind.__module__.startswith("pandas") for kind in type(value).__mro__)


def _check_location(location: Any) -> LocalData | RemoteData:
    if not isinstance(location, str) or not _paths.is_storable(location):
        raise InvalidArgumentError(f"data must be the path or URL of a file or folder, got {location!r:.80}")
    path = local_path(location)
    if path is not None:
        ending = "/" if location.endswith("/") else ""
        return LocalData(os.path.abspath(expand_home(str(path))) + ending)  # noqa: PTH100 - links stay as they are
    if holds_credentials(location):
        raise CredentialsError(f"data: {display_url(location)} holds credentials, and all readers see the URL")
    return RemoteData(location)


def check_meta(meta: Any, data: AnyData) -> TableData | None:
    """Returns the table of the metadata of a folder.

    Raises:
        InvalidArgumentError: it is not a table, or the data are not a folder.
    """
    if meta is None:
        return None
    given = check_data(meta) if not isinstance(meta, str | os.PathLike) else None
    if not isinstance(given, TableData):
        raise InvalidArgumentError(
            f"meta must be a DataFrame, an Arrow table or a lakefeed.Dataset with a column 'path', got {meta!r:.80}"
        )
    if not isinstance(data, LocalData | RemoteData):
        raise InvalidArgumentError("meta describes the files of a folder; the data are not a folder")
    return given
