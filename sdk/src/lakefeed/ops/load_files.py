"""LoadFiles: file columns become bytes or local paths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np
import pyarrow as pa

from lakefeed._typing import LoadFiles as LoadModes
from lakefeed._validate import check_seconds, is_auto, is_list, is_whole, list_names
from lakefeed.errors import (
    ColumnNotFoundError,
    InvalidArgumentError,
    LakefeedError,
    RowMessage,
    TypeMismatchError,
    quoted_list,
)
from lakefeed.media import column_type, default_mode, load_columns, loaded_type
from lakefeed.ops.row_failures import failed_row
from lakefeed.plan import Failure, Node, Step
from lakefeed.plan.take_rows import filter_by_mask
from lakefeed.storage.cache.blob_cache import CacheStatistics

if TYPE_CHECKING:
    from lakefeed.catalog.lake import Lake
    from lakefeed.media.cells import FileCells
    from lakefeed.media.load_columns import PendingColumn
    from lakefeed.storage import BlobStore

OnError: TypeAlias = Literal["raise", "null", "skip"]

LOAD_MODES = ("auto", "bytes", "path")
PORTION_ROWS = 64
"""The maximum number of rows whose files are loaded together, so that the first rows need not wait for thousands."""
LOOKUP_ROWS = 16 * PORTION_ROWS
"""Rows whose records are read together, before their files are loaded."""
PORTION_SHARE = 8
"""The maximum share of the byte limit (1/8) in a portion, whose files are held until all are loaded."""
FIRST_ROWS = 16
AHEAD_ROWS = 256
"""The maximum number of rows (or three batches) whose files are being loaded or are queued."""


@dataclass(frozen=True, eq=False, repr=False)
class LoadFiles(Step):
    """Loads the named file columns; ``modes`` are (column, "bytes" | "path") pairs."""

    modes: tuple[tuple[str, Literal["bytes", "path"]], ...]
    store: BlobStore
    workers: int
    on_error: OnError
    timeout: float
    max_inflight_bytes: int = 256_000_000

    keeps_columns: ClassVar[bool] = True
    keeps_row_count: ClassVar[bool] = True
    works_ahead: ClassVar[bool] = True

    @classmethod
    def of(
        cls,
        child: Node,
        lake: Lake,
        to: LoadModes,
        columns: Sequence[str] | None,
        workers: int,
        on_error: OnError,
        timeout: float,
        max_inflight_bytes: int,
    ) -> LoadFiles | None:
        """Returns the node of ``load_files``, or None if no column is to be loaded.

        Raises:
            InvalidArgumentError: an argument is invalid.
            ColumnNotFoundError: a column does not exist.
            TypeMismatchError: a column is not a file column.
        """
        if on_error not in get_args(OnError):
            raise InvalidArgumentError(f'on_error must be "raise", "null" or "skip", got {on_error!r:.80}')
        check_seconds(timeout, "fetch_timeout")
        for value, name in ((workers, "workers"), (max_inflight_bytes, "max_inflight_bytes")):
            if not is_whole(value) or value < 1:
                raise InvalidArgumentError(f"{name} must be a whole number of at least 1, got {value!r:.80}")
        modes = _choose_modes(child.schema, to, columns)
        kind = SkippingLoadFiles if on_error == "skip" else cls
        return kind(child, modes, lake.blobs, workers, on_error, timeout, max_inflight_bytes) if modes else None

    def output_schema(self) -> pa.Schema:
        modes = dict(self.modes)
        fields = []
        for field in self.child.schema:
            media = column_type(field)
            if field.name in modes and media is not None:
                field = pa.field(field.name, loaded_type(media, modes[field.name]), field.nullable)
            fields.append(field)
        return pa.schema(fields)

    def narrow(self, wanted: frozenset[str]) -> tuple[Node, frozenset[str]]:
        return replace(self, modes=tuple(item for item in self.modes if item[0] in wanted)), wanted

    def passes_filter(self, columns: frozenset[str]) -> bool:
        return columns.isdisjoint(name for name, _ in self.modes)

    def apply(self, batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
        return self.skip_failures(batch, offset)[0]

    def skip_failures(self, batch: pa.RecordBatch, offset: int) -> tuple[pa.RecordBatch, list[Failure]]:
        with closing(self.ahead()) as ahead:
            rows = ahead.start(batch, offset)()
            return rows, ahead.failures

    def prepare(self) -> None:
        _ = load_columns.ColumnLoader  # the module is lazy

    def ahead(self, tally: CacheStatistics | None = None) -> LoadAhead:
        return LoadAhead(self, tally)

    def identity(self) -> dict[str, object]:
        return {"modes": self.modes, "on_error": self.on_error}

    def describe(self) -> str:
        return f"LoadFiles {', '.join(f'{name}={mode}' for name, mode in self.modes)}"


@dataclass(frozen=True, eq=False, repr=False)
class SkippingLoadFiles(LoadFiles):
    """Does as `LoadFiles`, and leaves out the rows with a file that cannot be loaded."""

    keeps_row_count: ClassVar[bool] = False
    skips_rows: ClassVar[bool] = True

    def narrow(self, wanted: frozenset[str]) -> tuple[Node, frozenset[str]]:
        # Which rows are left out does not depend on the columns that are wanted.
        return self, wanted | {name for name, _ in self.modes}

    def describe(self) -> str:
        return f"Skipping{super().describe()}"


class LoadAhead:
    """Loads the files of one pass through the rows; see `lakefeed.plan.Ahead`."""

    def __init__(self, step: LoadFiles, tally: CacheStatistics | None = None) -> None:
        self._step = step
        self._loads = load_columns.ColumnLoader(
            step.store, step.workers, step.on_error, step.timeout, step.max_inflight_bytes, statistics=tally
        )
        self._columns = [
            (name, column_type(step.child.schema.field(name)) or "file", mode) for name, mode in step.modes
        ]
        self._cells: tuple[pa.RecordBatch | None, dict[str, FileCells]] = None, {}
        self.failures: list[Failure] = []
        self._started = 0
        self._finished = 0

    def portions(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        for start in range(0, batch.num_rows, LOOKUP_ROWS):
            rows = batch.slice(start, LOOKUP_ROWS)
            cells = self._cells_of(rows)
            start_row = 0
            while start_row < rows.num_rows:
                # Sizes become known while files load, so each portion is cut just before it starts.
                most = {name: column.part(start_row, start_row + PORTION_ROWS) for name, column in cells.items()}
                fitting = self._count_fitting(most, min(PORTION_ROWS, rows.num_rows - start_row))
                portion = rows.slice(start_row, fitting)
                self._cells = portion, {name: column.part(0, fitting) for name, column in most.items()}
                yield portion
                start_row += fitting

    def room(self, rows: int) -> bool:
        ahead = self._started - self._finished
        # At most twice the rows that were consumed, so that a consumer of few rows does not fetch many.
        wanted = max(self._finished, rows, FIRST_ROWS)
        return not ahead or (self._started + rows <= 2 * wanted and ahead + rows <= max(AHEAD_ROWS, 3 * rows))

    def start(self, batch: pa.RecordBatch, offset: int = 0) -> Callable[[], pa.RecordBatch]:
        cells = self._cells_of(batch)
        begun = {name: self._loads.begin(cells[name]) for name, _, _ in self._columns}
        self._started += batch.num_rows

        def finish() -> pa.RecordBatch:
            self._finished += batch.num_rows
            try:
                loaded = dict(zip(begun, self._loads.finish(list(begun.values())), strict=True))
            except LakefeedError:
                _row_failures(begun, batch, offset)  # names the row
                raise
            arrays = [loaded.get(name, column) for name, column in zip(batch.schema.names, batch.columns, strict=True)]
            rows = pa.RecordBatch.from_arrays(arrays, schema=self._step.schema)
            if not self._step.skips_rows:
                return rows
            self.failures = _row_failures(begun, batch, offset)
            return _without(rows, [index for index, _ in self.failures])

        return finish

    def close(self) -> None:
        self._loads.close()

    def _cells_of(self, batch: pa.RecordBatch) -> dict[str, FileCells]:
        cells_batch, cells = self._cells
        if cells_batch is batch:
            return cells
        return {name: self._loads.inspect(batch.column(name), media, mode) for name, media, mode in self._columns}

    def _count_fitting(self, cells: dict[str, FileCells], rows: int) -> int:
        """Returns how many of the first rows are loaded together within the byte limit; at least one."""
        sizes = [self._loads.sizes(cells[name]) for name, _, _ in self._columns]
        limit, total = self._step.max_inflight_bytes // PORTION_SHARE, 0
        if sum(map(sum, sizes)) <= limit:
            return rows
        for row, costs in enumerate(zip(*sizes, strict=True)):
            total += sum(costs)
            if row and total > limit:
                return row
        return rows


def _row_failures(columns: Mapping[str, PendingColumn], batch: pa.RecordBatch, offset: int) -> list[Failure]:
    """Returns the rows whose files could not be loaded, each with the error of its first such file."""
    failures: dict[int, LakefeedError] = {}
    for name, column in columns.items():
        for index, error in column.failures:
            if index not in failures:
                row = failed_row(batch, index, offset)
                if error.failed_row is None:
                    error.args = (RowMessage(f"{error}; column {name!r} of", row),)
                error.name_row(row)
                failures[index] = error
    return sorted(failures.items())


def _without(rows: pa.RecordBatch, indices: Sequence[int]) -> pa.RecordBatch:
    if not indices:
        return rows
    wanted = np.ones(rows.num_rows, bool)
    wanted[list(indices)] = False
    return filter_by_mask(rows, pa.array(wanted))


def _choose_modes(
    schema: pa.Schema, to: LoadModes, columns: Sequence[str] | None
) -> tuple[tuple[str, Literal["bytes", "path"]], ...]:
    media = {field.name: kind for field in schema if (kind := column_type(field)) is not None}
    if columns is not None and (isinstance(columns, str) or not (list_names(columns) or is_list(columns))):
        raise InvalidArgumentError(
            f"columns must be a list of column names, or None for all file columns, got {columns!r:.80}"
        )
    names = list(to) if isinstance(to, Mapping) else list(columns or [])
    if not all(isinstance(name, str) for name in names):
        raise InvalidArgumentError(f"load_files takes column names, got {quoted_list(names)}")
    missing = [name for name in names if name not in schema.names]
    if missing:
        raise ColumnNotFoundError.of(missing, schema.names)
    plain = [name for name in names if name not in media]
    if plain:
        raise TypeMismatchError(
            f"{quoted_list(plain)} are not file columns; the file columns are {quoted_list(media)}. "
            "with_column_types() turns a column of paths into one"
        )
    wanted = dict(to) if isinstance(to, Mapping) else {name: to for name in media if columns is None or name in columns}
    wrong = {name: mode for name, mode in wanted.items() if not _is_mode(mode)}
    if wrong or not (isinstance(to, Mapping) or _is_mode(to)):
        raise InvalidArgumentError(f'load_files must be "auto", "bytes", "path", True or False, got {to!r:.80}')
    chosen = {name: default_mode(media[name]) if is_auto(mode) else mode for name, mode in wanted.items()}
    return tuple((name, mode) for name, mode in chosen.items() if mode in ("bytes", "path"))


def _is_mode(mode: Any) -> bool:
    return isinstance(mode, bool) or (isinstance(mode, str) and mode in LOAD_MODES)
