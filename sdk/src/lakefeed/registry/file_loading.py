"""Files in memory: a table, an AnnData, values of JSON, text or bytes, by the suffix; several files as one value."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

from lakefeed.errors import (
    BudgetExceededError,
    FormatError,
    InvalidArgumentError,
    SchemaError,
    TypeMismatchError,
    quoted_list,
)
from lakefeed.registry.anndata_entry import import_anndata

Join: TypeAlias = Literal["inner", "outer"]

FILE_UID: Final = "file_uid"
"""The column of ``obs`` that names the file of each row of several AnnData files."""


class LoadedFile(NamedTuple):
    """A file to load.

    Attributes:
        uid: the uid of its record.
        name: its name, for messages.
        suffix: its suffix in lower case, such as ".csv".
        path: a local copy.
    """

    uid: str
    name: str
    suffix: str
    path: Path


def check_join(value: Any) -> Join:
    """Returns the way in which columns or variables of several files are joined.

    Raises:
        InvalidArgumentError: there is no such way.
    """
    if isinstance(value, str) and value in ("inner", "outer"):
        return cast("Join", value)
    raise InvalidArgumentError(f'join must be "outer" or "inner", got {value!r:.80}')


def check_budget(size: int | None, budget: int) -> None:
    """Checks that contents fit into memory.

    Raises:
        BudgetExceededError: they are larger than the budget, in bytes.
    """
    if size is not None and size > budget:
        raise BudgetExceededError(
            f"load would read {size:,} bytes, and the budget is {budget:,}; pass max_bytes={size}, or read a part with "
            "backed() or rows()"
        )


def load_file(file: LoadedFile, options: Mapping[str, Any]) -> Any:
    """Returns the content of a file, by its suffix; bytes if the suffix is not known.

    Args:
        file: the file.
        options: passed to the function that reads tables or AnnData files.

    Raises:
        FormatError: the content does not have the format of the suffix.
        MissingDependencyError: a library is not installed.
    """
    reader = READERS.get(file.suffix, _read_bytes)
    try:
        return reader(file.path, **options)
    except (ValueError, UnicodeDecodeError) as error:
        raise FormatError(f"{file.name} cannot be read as {file.suffix or 'bytes'}: {error}") from error


def load_together(files: Sequence[LoadedFile], join: Join, options: Mapping[str, Any]) -> Any:
    """Returns several files as one table or one AnnData, in order. The ``obs`` of an AnnData gets ``file_uid``.

    Raises:
        TypeMismatchError: the suffixes differ, or the files are neither tables nor AnnData files.
    """
    suffixes = list(dict.fromkeys(file.suffix for file in files))
    if len(suffixes) > 1 or not suffixes or suffixes[0] not in TOGETHER:
        raise TypeMismatchError(
            f"load joins files of one suffix out of {quoted_list(sorted(TOGETHER))}; these have "
            f"{quoted_list(suffixes)}. Load each of .files by itself"
        )
    values = [load_file(file, options) for file in files]
    return TOGETHER[suffixes[0]](values, files, join)


def _read_bytes(path: Path) -> bytes:
    return path.read_bytes()


def _read_text(path: Path) -> str:
    return path.read_text("utf-8")


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _read_csv(path: Path, **options: Any) -> Any:
    import pandas as pd

    return pd.read_csv(path, **options)


def _read_tsv(path: Path, **options: Any) -> Any:
    return _read_csv(path, **{"sep": "\t", **options})


def _read_parquet(path: Path, **options: Any) -> Any:
    import pandas as pd

    return pd.read_parquet(path, **options)


def _read_json_lines(path: Path, **options: Any) -> Any:
    import pandas as pd

    return pd.read_json(path, lines=True, **options)


def _read_h5ad(path: Path, **options: Any) -> Any:
    return import_anndata("load").read_h5ad(path, **options)


READERS: Final[Mapping[str, Callable[..., Any]]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json": _read_json,
    ".h5ad": _read_h5ad,
    ".txt": _read_text,
    ".md": _read_text,
}
"""The readers by suffix."""


def _join_frames(values: Sequence[Any], files: Sequence[LoadedFile], join: Join) -> Any:
    import pandas as pd

    return pd.concat(values, join=join)


def _join_anndata(values: Sequence[Any], files: Sequence[LoadedFile], join: Join) -> Any:
    import pandas as pd

    for value, file in zip(values, files, strict=True):
        value.obs[FILE_UID] = file.uid
    try:
        return import_anndata("load").concat(values, join=join)
    except pd.errors.InvalidIndexError as error:
        repeated = [file.name for value, file in zip(values, files, strict=True) if not value.var_names.is_unique]
        raise SchemaError(
            f"the variables of {quoted_list(repeated)} cannot be joined by name with those of other files, as some "
            "occur more than once. Call var_names_make_unique and write the files again"
        ) from error


TOGETHER: Final[Mapping[str, Callable[..., Any]]] = {
    ".csv": _join_frames,
    ".tsv": _join_frames,
    ".parquet": _join_frames,
    ".jsonl": _join_frames,
    ".ndjson": _join_frames,
    ".h5ad": _join_anndata,
}
"""The functions that join the values of several files, by suffix."""
