"""The conversion of CSV cells to typed values."""

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
"""The cells that Arrow reads as null in columns other than text: the empty cell, ``NA``, ``null``, ``NaN``, …"""

NAN_WORDS = ("NaN", "nan", "-NaN", "-nan")
"""Null words that are values in columns of floats."""


@dataclass(frozen=True)
class NullWords:
    """The cells that are null.

    Attributes:
        text: in columns of text and bytes, if they are not quoted.
        others: in columns of other types.
        floats: in columns of floats.
    """

    text: tuple[str, ...] = ("",)
    others: tuple[str, ...] = NULL_WORDS
    floats: tuple[str, ...] = tuple(word for word in NULL_WORDS if word not in NAN_WORDS)

    @classmethod
    def of(cls, null_values: Sequence[str] | None) -> NullWords:
        """Returns ``null_values``, or the default words. The empty cell is always null in columns other than text."""
        if null_values is None:
            return cls()
        words = tuple(dict.fromkeys((*null_values, "")))
        return cls(tuple(null_values), words, words)


class Conversion:
    """Converts CSV records to columns of known types.

    Args:
        names: the names of all columns of the file, in order.
        kinds: the types by column; other types are inferred.
        columns: the columns to read, in this order; None for all.
        nulls: the cells that are null.
        reject_rounding: raises an error for a whole number that a column of floats would round.
    """

    def __init__(
        self,
        names: Sequence[str],
        kinds: Mapping[str, pa.DataType],
        columns: Sequence[str] | None,
        nulls: NullWords,
        *,
        reject_rounding: bool = False,
    ) -> None:
        self._reject_rounding = reject_rounding
        self._names = list(names)
        self._kinds = dict(kinds)
        self._columns = None if columns is None else list(columns)
        self._nulls = nulls
        # A word such as "0" could be read as a value of a type other than text.
        self._separate = any(nulls.text) and not self._only_text

    def table(self, records: bytes) -> pa.Table:
        """Returns the rows of complete records.

        Raises:
            pa.ArrowInvalid: a cell does not have the type of its column, or a record has too many or too few cells.
        """
        table = self._read_table(records)
        if self._reject_rounding:
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
                index = self._names.index(name)
                raise pa.ArrowInvalid(f"In CSV column #{index}: double would round it, and earlier rows are doubles")

    def _read_table(self, records: bytes) -> pa.Table:
        if not self._separate:
            try:
                return _read(records, self._names, self._kinds, self._columns, self._nulls.text)
            except pa.ArrowInvalid as error:
                if not is_cell_error(error) or self._only_text:
                    raise
        table = self._read_by_kind(records)
        # Later records of such a file have null words too. Both ways give the same rows, so the order in which threads
        # get here does not matter.
        self._separate = True
        return table

    @property
    def _only_text(self) -> bool:
        return all(_is_text(self._kinds.get(name)) for name in self._columns or self._names)

    def _read_by_kind(self, records: bytes) -> pa.Table:
        """Reads each kind of column with its own null words. Arrow has one list of null words for all columns."""
        names = self._columns or self._names
        groups: dict[tuple[tuple[str, ...], bool], list[str]] = {}
        for name in names:
            kind = self._kinds.get(name)
            text = _is_text(kind)
            words = self._nulls.text if text else self._nulls.floats if _is_float(kind) else self._nulls.others
            groups.setdefault((words, not text), []).append(name)
        columns: dict[str, Any] = {}
        for (words, quoted), group in groups.items():
            table = _read(records, self._names, self._kinds, group, words, quoted=quoted)
            columns.update(zip(group, table.columns, strict=True))
        return pa.table({name: columns[name] for name in names})


def is_cell_error(error: pa.ArrowInvalid) -> bool:
    """Returns whether an error is about one cell, not about the number of cells in a record."""
    return "In CSV column" in str(error)


def infer_schema(records: bytes, names: Sequence[str], nulls: NullWords) -> pa.Schema:
    """Infers the types of columns from records. A column with cells that are not UTF-8 is binary.

    Whole numbers are never rounded. A column with whole numbers beyond int64, or with fractions and whole numbers that
    a float would round, is decimal, or text beyond 76 digits.

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
    """Returns the columns that have another type once their null words are null."""
    words = pa.array(nulls.others, pa.string())
    candidates = [name for name, column in zip(names, table.columns, strict=True) if _has_words(column, words)]
    if not candidates:
        return {}
    read = _read(records, names, {}, candidates, nulls.others, quoted=True)
    pairs = [(name, table[name].type, read[name]) for name in candidates]
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
    """Returns whether null words other than the empty cell are values. A column that is null so far may be text."""
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
    """Reads complete records. With ``quoted``, null words in quotes are null too."""
    wide = {name: kind for name, kind in kinds.items() if types.is_decimal256(kind)}
    convert = pacsv.ConvertOptions(
        column_types={**kinds, **dict.fromkeys(wide, pa.string())},
        include_columns=None if columns is None else list(columns),
        null_values=list(words),
        strings_can_be_null=True,
        quoted_strings_can_be_null=quoted,
    )
    # Without a line end Arrow treats an empty last cell as quoted if an earlier cell is quoted.
    end = b"" if records.endswith((b"\n", b"\r")) else b"\n"
    table = pacsv.read_csv(
        memory_file(records, end),
        # One block: a block boundary could cut a line that is longer than half a block.
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
    """Casts text to decimals that Arrow's CSV reader does not support."""
    try:
        return pc.utf8_trim_whitespace(texts).cast(kind)
    except pa.ArrowInvalid as error:
        raise pa.ArrowInvalid(f"In CSV column #{index}: {error}") from error
