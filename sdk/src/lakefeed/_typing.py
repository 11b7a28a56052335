"""Type aliases that the signatures share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, TypeAlias

import pyarrow as pa

Row: TypeAlias = dict[str, Any]
RowFn: TypeAlias = Callable[[Row], Row]
RowPredicate: TypeAlias = Callable[[Row], bool]
BatchFn: TypeAlias = Callable[[pa.RecordBatch], pa.RecordBatch]
BatchFactory: TypeAlias = Callable[[], Iterable[pa.RecordBatch]]
LoadMode: TypeAlias = bool | Literal["auto", "bytes", "path"]
LoadFiles: TypeAlias = LoadMode | Mapping[str, LoadMode]
Locations: TypeAlias = str | PathLike[str] | Sequence[str | PathLike[str]]
Words: TypeAlias = Sequence[str] | None
ColumnTypes: TypeAlias = Mapping[str, Any]
Ragged: TypeAlias = Literal["jagged", "pad", "list"]
Sparse: TypeAlias = Literal["csr", "dense"]
Block: TypeAlias = Callable[[], Sequence[pa.RecordBatch]]
"""Decodes a part of a file and returns its rows. It may be called in any thread, once."""
IfExists: TypeAlias = Literal["error", "append", "new_version"]
