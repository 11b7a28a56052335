"""LoadFiles: file columns become bytes or local paths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pyarrow as pa

from lakefeed._typing import LoadFiles as LoadModes
from lakefeed._validate import check_seconds, is_auto, is_list, is_whole, list_names
from lakefeed.errors import ColumnNotFoundError, InvalidArgumentError, TypeMismatchError, quoted_list
from lakefeed.media import column_type, default_mode, load_columns, loaded_type
from lakefeed.plan import Node, Step
from lakefeed.storage.cache.cache_statistics import CacheStatistics

if TYPE_CHECKING:
    from lakefeed.catalog.lake import Lake
    from lakefeed.media.cells import FileCells
    from lakefeed.storage import BlobStore

LOAD_MODES = ("auto", "bytes", "path")
PORTION_ROWS = 64
"""Rows whose files are loaded together, at most: the first ones must not wait for thousands."""
LOOKUP_ROWS = 16 * PORTION_ROWS
"""Rows that are looked at together, before their files are loaded."""
PORTION_SHARE = 8
"""A portion takes this part of the bytes allowed, at most: its files are held until all of them are there."""
FIRST_ROWS = 16
AHEAD_ROWS = 256
"""Rows whose files are being loaded or wait for their turn, at most (or three batches)."""


@dataclass(frozen=True, eq=False, repr=False)
class LoadFiles(Step):
    """The named file columns as content; ``modes`` are (column, "bytes" | "path") pairs."""

    modes: tuple[tuple[str, Literal["bytes", "path"]], ...]
    store: BlobStore
    workers: int
    on_error: Literal["raise", "null"]
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
        on_error: Literal["raise", "null"],
        timeout: float,
        max_inflight_bytes: int,
    ) -> LoadFiles | None:
        """Returns the node of ``load_files``; None if there is nothing to load."""
        if on_error not in ("raise", "null"):
            raise InvalidArgumentError(f'on_error={on_error!r}: it is "raise" or "null"')
        check_seconds(timeout, "fetch_timeout")
        for given, name in ((workers, "workers"), (max_inflight_bytes, "max_inflight_bytes")):
            if not is_whole(given) or given < 1:
                raise InvalidArgumentError(f"{name}={given!r:.80}: give a whole number from 1 on")
        modes = _choose_modes(child.schema, to, columns)
        return cls(child, modes, lake.blobs, workers, on_error, timeout, max_inflight_bytes) if modes else None

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
        with closing(self.ahead()) as ahead:
            return ahead.start(batch)()

    def ahead(self, tally: CacheStatistics | None = None) -> LoadAhead:
        return LoadAhead(self, tally)

    def identity(self) -> dict[str, object]:
        return {"modes": self.modes, "on_error": self.on_error}

    def describe(self) -> str:
        return f"LoadFiles {', '.join(f'{name}={mode}' for name, mode in self.modes)}"


class LoadAhead:
    """Loads the files of one run through the rows; see `lakefeed.plan.Ahead`."""

    def __init__(self, step: LoadFiles, tally: CacheStatistics | None = None) -> None:
        self._step = step
        self._loads = load_columns.ColumnLoader(
            step.store, step.workers, step.on_error, step.timeout, step.max_inflight_bytes, tally=tally
        )
        self._columns = [
            (name, column_type(step.child.schema.field(name)) or "file", mode) for name, mode in step.modes
        ]
        self._looked_at: tuple[pa.RecordBatch | None, dict[str, FileCells]] = None, {}
        self._begun = 0
        self._done = 0

    def portions(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        for start in range(0, batch.num_rows, LOOKUP_ROWS):
            rows = batch.slice(start, LOOKUP_ROWS)
            cells = self._cells_of(rows)
            at = 0
            while at < rows.num_rows:
                # Sizes are learnt on the way, so each portion is cut by what is known when it is begun.
                most = {name: column.part(at, at + PORTION_ROWS) for name, column in cells.items()}
                fitting = self._fitting(most, min(PORTION_ROWS, rows.num_rows - at))
                portion = rows.slice(at, fitting)
                self._looked_at = portion, {name: column.part(0, fitting) for name, column in most.items()}
                yield portion
                at += fitting

    def room(self, rows: int) -> bool:
        ahead = self._begun - self._done
        # As many rows again as were wanted: who takes few does not cause many to be fetched.
        wanted = max(self._done, rows, FIRST_ROWS)
        return not ahead or (self._begun + rows <= 2 * wanted and ahead + rows <= max(AHEAD_ROWS, 3 * rows))

    def start(self, batch: pa.RecordBatch) -> Callable[[], pa.RecordBatch]:
        cells = self._cells_of(batch)
        begun = {name: self._loads.begin(cells[name]) for name, _, _ in self._columns}
        self._begun += batch.num_rows

        def finish() -> pa.RecordBatch:
            self._done += batch.num_rows
            loaded = dict(zip(begun, self._loads.finish(list(begun.values())), strict=True))
            arrays = [loaded.get(name, column) for name, column in zip(batch.schema.names, batch.columns, strict=True)]
            return pa.RecordBatch.from_arrays(arrays, schema=self._step.schema)

        return finish

    def close(self) -> None:
        self._loads.close()

    def _cells_of(self, batch: pa.RecordBatch) -> dict[str, FileCells]:
        looked_at, cells = self._looked_at
        if looked_at is batch:
            return cells
        return {name: self._loads.look(batch.column(name), media, mode) for name, media, mode in self._columns}

    def _fitting(self, cells: dict[str, FileCells], rows: int) -> int:
        """How many of the first rows are loaded together: as the bytes allowed permit, or one."""
        sizes = [self._loads.sizes(cells[name]) for name, _, _ in self._columns]
        most, held = self._step.max_inflight_bytes // PORTION_SHARE, 0
        if sum(map(sum, sizes)) <= most:
            return rows
        for row, costs in enumerate(zip(*sizes, strict=True)):
            held += sum(costs)
            if row and held > most:
                return row
        return rows


def _choose_modes(
    given: pa.Schema, to: LoadModes, only: Sequence[str] | None
) -> tuple[tuple[str, Literal["bytes", "path"]], ...]:
    media = {field.name: kind for field in given if (kind := column_type(field)) is not None}
    if only is not None and (isinstance(only, str) or not (list_names(only) or is_list(only))):
        raise InvalidArgumentError(f"columns={only!r:.80}: give a list of column names, or None for all file columns")
    named = list(to) if isinstance(to, Mapping) else list(only or [])
    if not all(isinstance(name, str) for name in named):
        raise InvalidArgumentError(f"load_files takes names of columns, not {quoted_list(named)}")
    missing = [name for name in named if name not in given.names]
    if missing:
        raise ColumnNotFoundError.of(missing, given.names)
    plain = [name for name in named if name not in media]
    if plain:
        raise TypeMismatchError(
            f"{quoted_list(plain)} hold no files; the file columns are {quoted_list(media)}. with_column_types() makes "
            "one of a column of paths"
        )
    wanted = dict(to) if isinstance(to, Mapping) else {name: to for name in media if only is None or name in only}
    wrong = {name: mode for name, mode in wanted.items() if not _is_mode(mode)}
    if wrong or not (isinstance(to, Mapping) or _is_mode(to)):
        raise InvalidArgumentError(f'files load as "auto", "bytes", "path", True or False, not as {to!r:.80}')
    chosen = {name: default_mode(media[name]) if is_auto(mode) else mode for name, mode in wanted.items()}
    return tuple((name, mode) for name, mode in chosen.items() if mode in ("bytes", "path"))


def _is_mode(given: Any) -> bool:
    return isinstance(given, bool) or (isinstance(given, str) and given in LOAD_MODES)
