"""Cells of CSV as values: which are null, and which types they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
from pyarrow import types

from lakefeed._arrow import compute as pc
from lakefeed.formats.text_blocks import memory_file
from lakefeed.formats.whole_numbers import decimal_of_texts, decimal_type, max_digits, may_be_inexact, rounded_text

BLANK = b"\r\n"
NULL_WORDS = tuple(pacsv.ConvertOptions().null_values or ())
"""What Arrow takes for null in columns that are not text: the empty cell, ``NA``, ``null``, ``NaN`` and the like."""

NAN_WORDS = ("NaN", "nan", "-NaN", "-nan")
"""Words that are also values of a column of floats."""


@dataclass(frozen=True)
class NullWords:
    """The cells that are null.

    ``text``: in columns of text and bytes, where they are not quoted; ``others``: in other columns; ``floats``: in
    columns of floats.
    """

    text: tuple[str, ...] = ("",)
    others: tuple[str, ...] = NULL_WORDS
    floats: tuple[str, ...] = tuple(word for word in NULL_WORDS if word not in NAN_WORDS)

    @classmethod
    def of(cls, null_values: Sequence[str] | None) -> NullWords:
        """Returns the usual ones, or those given; in columns other than text the empty cell is null besides."""
        if null_values is None:
            return cls()
        words = tuple(dict.fromkeys((*null_values, "")))
        return cls(tuple(null_values), words, words)


class Conversion:
    """Reads records of CSV as columns of known types.

    Args:
        names: of all columns of the file, in order.
        kinds: the types by column; of others the type is inferred.
        columns: the columns to read, in this order; None: all.
        nulls: the cells that are null.
        exact: a whole number that a column of floats would round is an error.
    """

    def __init__(
        self,
        names: Sequence[str],
        kinds: Mapping[str, pa.DataType],
        columns: Sequence[str] | None,
        nulls: NullWords,
        *,
        exact: bool = False,
    ) -> None:
        self._exact = exact
        self._names = list(names)
        self._kinds = dict(kinds)
        self._columns = None if columns is None else list(columns)
        self._nulls = nulls
        self._apart = False

    def table(self, records: bytes) -> pa.Table:
        """Returns the rows of whole records.

        Raises:
            pa.ArrowInvalid: a cell does not fit the type of its column, or a record has too many or too few.
        """
        table = self._table(records)
        if self._exact:
            self._check_rounding(records, table)
        return table

    def _check_rounding(self, records: bytes, table: pa.Table) -> None:
        columns = zip(table.schema.names, table.columns, strict=True)
        suspects = [name for name, column in columns if types.is_float64(column.type) and may_be_inexact(column)]
        if not suspects:
            return
        texts = _read(records, self._names, dict.fromkeys(suspects, pa.string()), suspects, ())
        for name in suspects:
            if rounded_text(texts[name]) is not None:
                place = self._names.index(name)
                raise pa.ArrowInvalid(f"In CSV column #{place}: double would round it, and earlier rows are of doubles")

    def _table(self, records: bytes) -> pa.Table:
        if not self._apart:
            try:
                return _read(records, self._names, self._kinds, self._columns, self._nulls.text)
            except pa.ArrowInvalid as error:
                if not is_cell_error(error) or self._only_text:
                    raise
        table = self._read_apart(records)
        self._apart = True  # such a file has more of them
        return table

    @property
    def _only_text(self) -> bool:
        return all(_is_text(self._kinds.get(name)) for name in self._columns or self._names)

    def _read_apart(self, records: bytes) -> pa.Table:
        """The same, with the null words of each kind of column: Arrow has one list of them for all columns."""
        wanted = self._columns or self._names
        groups: dict[tuple[tuple[str, ...], bool], list[str]] = {}
        for name in wanted:
            kind = self._kinds.get(name)
            text = _is_text(kind)
            words = self._nulls.text if text else self._nulls.floats if _is_float(kind) else self._nulls.others
            groups.setdefault((words, not text), []).append(name)
        columns: dict[str, Any] = {}
        for (words, quoted), group in groups.items():
            table = _read(records, self._names, self._kinds, group, words, quoted=quoted)
            columns.update(zip(group, table.columns, strict=True))
        return pa.table({name: columns[name] for name in wanted})


def is_cell_error(error: pa.ArrowInvalid) -> bool:
    """Whether Arrow complains of a cell, not of the shape of a record."""
    return "In CSV column" in str(error)


def infer_schema(records: bytes, names: Sequence[str], nulls: NullWords) -> pa.Schema:
    """Returns the types that records show. Cells that are not UTF-8 make a column of bytes.

    Whole numbers are never rounded: where one is beyond int64, or beyond what a float holds in a column of fractions,
    the column is of decimals, or text beyond 76 digits.

    Raises:
        pa.ArrowInvalid: a record has too many or too few cells.
    """
    table = _read(records, names, {}, None, nulls.text)
    if len(set(names)) < len(names):
        return table.schema
    columns = {**dict(zip(names, table.columns, strict=True)), **_reread_null_words(records, names, table, nulls)}
    kinds = {name: column.type for name, column in columns.items()}
    inexact = [name for name, column in columns.items() if types.is_float64(column.type) and may_be_inexact(column)]
    if inexact:
        as_text = dict.fromkeys(inexact, pa.string())
        texts = _read(records, names, as_text, inexact, nulls.others, quoted=True)
        for name in inexact:
            digits = max_digits(texts[name])
            if digits is not None:
                kinds[name] = decimal_type(digits) or pa.string()
            elif rounded_text(texts[name]) is not None:
                kinds[name] = decimal_of_texts(texts[name]) or pa.string()
    return pa.schema(kinds)


def _reread_null_words(records: bytes, names: Sequence[str], table: pa.Table, nulls: NullWords) -> dict[str, Any]:
    """The columns that are not text, or not floats, once null words are null."""
    words = pa.array(nulls.others, pa.string())
    again = [name for name, column in zip(names, table.columns, strict=True) if _has_words(column, words)]
    if not again:
        return {}
    read = _read(records, names, {}, again, nulls.others, quoted=True)
    pairs = [(name, table[name].type, read[name]) for name in again]
    return {
        name: column
        for name, before, column in pairs
        if (types.is_integer(column.type) if types.is_float64(before) else not _is_text(column.type))
    }


def _has_words(column: pa.ChunkedArray[Any], words: pa.Array[Any]) -> bool:
    if types.is_float64(column.type):
        return bool(pc.any(pc.is_nan(column)).as_py())
    return types.is_string(column.type) and bool(pc.any(pc.is_in(column, words)).as_py())


def _is_text(kind: pa.DataType | None) -> bool:
    """Whether null words other than the empty cell are values. A column that is null so far may be text."""
    if kind is None:
        return True
    if types.is_dictionary(kind):
        return _is_text(kind.value_type)
    tests = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary, types.is_null)
    return types.is_fixed_size_binary(kind) or any(test(kind) for test in tests)


def _is_float(kind: pa.DataType | None) -> bool:
    return kind is not None and types.is_floating(kind)


def _read(
    records: bytes,
    names: Sequence[str],
    kinds: Mapping[str, pa.DataType],
    columns: Sequence[str] | None,
    words: Sequence[str],
    *,
    quoted: bool = False,
) -> pa.Table:
    """The rows of whole records. ``quoted``: null words in quotes are null too."""
    wide = {name: kind for name, kind in kinds.items() if types.is_decimal256(kind)}
    convert = pacsv.ConvertOptions(
        column_types={**kinds, **dict.fromkeys(wide, pa.string())},
        include_columns=None if columns is None else list(columns),
        null_values=list(words),
        strings_can_be_null=True,
        quoted_strings_can_be_null=quoted,
    )
    # Without a line end Arrow takes an empty cell at the end for quoted if one before it is.
    end = b"" if records.endswith((b"\n", b"\r")) else b"\n"
    table = pacsv.read_csv(
        memory_file(records, end),
        # At once: a boundary within could cut a line that is longer than half of it.
        read_options=pacsv.ReadOptions(column_names=list(names), block_size=len(records) + 1),
        convert_options=convert,
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
    )
    for index, name in enumerate(table.schema.names):
        if name in wide:
            table = table.set_column(
                index, name, _cast_wide_decimals(table.column(index), wide[name], names.index(name))
            )
    return table


def _cast_wide_decimals(texts: pa.ChunkedArray[Any], kind: pa.DataType, index: int) -> pa.ChunkedArray[Any]:
    """Texts as decimals that Arrow's reader does not read itself."""
    try:
        return pc.utf8_trim_whitespace(texts).cast(kind)
    except pa.ArrowInvalid as error:
        raise pa.ArrowInvalid(f"In CSV column #{index}: {error}") from error
