"""Rows of ``Dataset.mapped``, of which PyTorch's ``default_collate`` makes the batches that ``to_torch`` makes.

PyTorch collates Python values, so a vector would become as many tensors of float64 as it has elements. A `MappedRow`
knows its place in the Arrow rows, and `default_collate` looks its type up in a table, where `MappedRows` enters it.
Importing this module does not import torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from lakefeed._sparse import sparse_width
from lakefeed._typing import Row
from lakefeed.media import column_type, handles
from lakefeed.ops.row_functions import handle_columns
from lakefeed.run.gather import Gatherable, HeldRows, gather
from lakefeed.run.row_index import RowIndex, check_positions, is_position

if TYPE_CHECKING:
    from lakefeed.run.partitions import Partitions
    from lakefeed.storage import BlobStore

Collate: TypeAlias = Callable[..., Any]
CellReader: TypeAlias = Callable[[Any, int], Any]

_TORCH_MODULE = "torch.utils.data._utils.collate"


class Origin(NamedTuple):
    """The Arrow rows that hold a row, its number in them, and its cells as they were read."""

    batch: pa.RecordBatch
    number: int
    cells: tuple[Any, ...]


class MappedRow(dict[str, Any]):
    """A row as a dict, with its `Origin`. A copy, and what is pickled, is a plain dict."""

    __slots__ = ("origin",)

    origin: Origin

    def __reduce__(self) -> tuple[type[Row], tuple[Row]]:
        return dict, (dict(self),)


class MappedRows:
    """Rows by index, as dicts. File cells are handles if there is a store."""

    def __init__(self, partitions: Partitions, store: BlobStore | None) -> None:
        self._index = RowIndex(partitions)
        self._names = partitions.schema.names
        self._store = store
        self._readers = [_cell_reader(field, store) for field in partitions.schema]

    def get(self, index: int | slice | Sequence[int]) -> Row | list[Row]:
        """Returns one row, or a list of rows. Negative indices count from the end.

        Raises:
            RowIndexError: a row of this index does not exist.
        """
        _register()
        if is_position(index):
            return self._row(*self._index.row(int(index)))  # type: ignore[arg-type]  # a number
        batches = self._index.at(check_positions(index, len(self._index)))
        return [row for batch in batches for row in self._rows(batch)]

    def _row(self, held: HeldRows, number: int) -> MappedRow:
        cells = tuple([read(column, number) for read, column in zip(self._readers, held.columns, strict=True)])
        row = MappedRow(zip(self._names, cells, strict=True))
        row.origin = Origin(held.rows, number, cells)
        return row

    def _rows(self, batch: pa.RecordBatch) -> Iterator[MappedRow]:
        columns = handle_columns(batch, self._store).values()
        for number, cells in enumerate(zip(*columns, strict=True) if columns else ((),) * batch.num_rows):
            row = MappedRow(zip(self._names, cells, strict=True))
            row.origin = Origin(batch, number, cells)
            yield row


def _cell_reader(field: pa.Field[Any], store: BlobStore | None) -> CellReader:
    """Returns the function that reads one cell of a column as a Python value."""
    media, kind = column_type(field), field.type
    if media is not None and store is not None:
        return lambda column, number: handles(column.slice(number, 1), media, store)[0]
    if kind.num_fields and not (pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)):
        return lambda column, number: column.slice(number, 1).to_pylist()[0]  # Arrow's scalars of structs are slow
    return lambda column, number: column[number].as_py()


def _register() -> None:
    """Lets PyTorch collate rows with `collate_rows`, once it is imported."""
    collate = sys.modules.get(_TORCH_MODULE)
    if collate is not None:
        collate.default_collate_fn_map.setdefault(MappedRow, collate_rows)


def collate_rows(rows: Sequence[MappedRow], *, collate_fn_map: dict[type, Collate] | None = None) -> dict[str, Any]:
    """Returns the rows as a batch of tensors and lists, as ``to_torch`` does.

    Columns whose cells were replaced, and rows of several schemas, are collated by PyTorch.

    Raises:
        TypeMismatchError: a column holds null, for which its tensor has no value.
    """
    from lakefeed.loaders.collate import is_tensor_type, tensors  # imports torch, which has called this function

    schema = rows[0].origin.batch.schema
    unchanged = _unchanged(rows, schema)
    fields = [schema.field(name) for name in unchanged]
    names = [field.name for field in fields if is_tensor_type(field.type) or sparse_width(field) is not None]
    columns = _arrow_columns(rows, names) if names else {}
    converted = tensors(_batch(columns, schema), copy=True) if columns else {}
    lists = unchanged.difference(names)
    default: Collate = sys.modules[_TORCH_MODULE].collate
    batch: dict[str, Any] = {}
    for name in rows[0]:
        cells = [row[name] for row in rows]
        if name in converted:
            batch[name] = converted[name]
        else:
            batch[name] = cells if name in lists else default(cells, collate_fn_map=collate_fn_map)
    return batch


def _batch(columns: Mapping[str, pa.Array[Any]], schema: pa.Schema) -> pa.RecordBatch:
    fields = [schema.field(name) for name in columns]
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=pa.schema(fields))


def _unchanged(rows: Sequence[MappedRow], schema: pa.Schema) -> frozenset[str]:
    """Returns the columns of which every row has the cells that were read."""
    if not all(row.origin.batch.schema.equals(schema) for row in rows):
        return frozenset()
    return frozenset(
        name
        for index, name in enumerate(schema.names)
        if all(row.get(name, row) is row.origin.cells[index] for row in rows)
    )


def _arrow_columns(rows: Sequence[MappedRow], names: Sequence[str]) -> dict[str, pa.Array[Any]]:
    """Returns columns of the rows by name, without those whose lists were changed so that they do not fit the type."""
    columns = dict(zip(names, _gathered(rows, names).columns, strict=True))
    for name in [name for name in names if columns[name].type.num_fields]:
        try:
            # A list may have been changed in place, which its identity does not tell.
            columns[name] = _array([row[name] for row in rows], columns[name].type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
            del columns[name]
    return columns


def _array(cells: Sequence[Any], kind: Any) -> pa.Array[Any]:
    if isinstance(kind, pa.BaseExtensionType):
        wrapped: pa.Array[Any] = kind.wrap_array(_array(cells, kind.storage_type))
        return wrapped
    plain: pa.Array[Any] = pa.array(cells, kind)
    return plain


def _gathered(rows: Sequence[MappedRow], names: Sequence[str]) -> pa.RecordBatch:
    """Returns columns of the rows in one batch, which holds the memory of no other."""
    batches = {id(row.origin.batch): row.origin.batch for row in rows}
    numbers = {key: number for number, key in enumerate(batches)}
    sources = [Gatherable([batch.select(names)]) for batch in batches.values()]
    source_of = np.array([numbers[id(row.origin.batch)] for row in rows], np.int64)
    return gather(sources.__getitem__, source_of, np.array([row.origin.number for row in rows], np.int64))
