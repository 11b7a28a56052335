"""Columns of obs over several files as labels: codes of values, or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from lakefeed.errors import TypeMismatchError

if TYPE_CHECKING:
    import pandas as pd

MISSING_CODE: Final = -1
NUMBERS: Final = "iuf"

Encoder: TypeAlias = dict[Any, int]


@dataclass(frozen=True)
class LabelColumn:
    """A label of each row.

    Attributes:
        values: codes (int64), numbers, booleans, or text as objects.
        encoder: the code of each value; None unless ``values`` are codes.
    """

    values: npt.NDArray[Any]
    encoder: Encoder | None = None


@dataclass(frozen=True)
class _Part:
    """The column of one file: the position of each row's value in ``values``, or -1."""

    codes: npt.NDArray[np.int64]
    values: list[Any]
    file: str

    @property
    def kind(self) -> str:
        kinds = {_kind(value) for value in self.values}
        return " and ".join(sorted(kinds))


def label_column(key: str, parts: Sequence[tuple[str, pd.Series]], encode: bool | None) -> LabelColumn:
    """Returns the label of a key.

    Args:
        key: the name of the column.
        parts: the name of each file, and its column.
        encode: encode all values; False: none; None: text, categories and booleans.

    Raises:
        TypeMismatchError: the files hold values that cannot be sorted together.
    """
    numeric = [_is_number(column) for _, column in parts]
    if all(numeric) and not encode:
        return LabelColumn(_numbers([column for _, column in parts]))
    if encode is None and any(is_number and parts[each][1].notna().any() for each, is_number in enumerate(numeric)):
        texts = ", ".join(f"{column.dtype} in {file}" for file, column in parts)
        raise TypeMismatchError(
            f"obs[{key!r}] holds numbers in some files and categories or text in others, which cannot be encoded "
            f"together: {texts}. Store it in one type, or, if the categories are numbers, name it in "
            f"encode_labels=[{key!r}]"
        )
    factors = [_factorized(column, file) for file, column in parts]
    encoder = _joint_encoder(key, factors)
    if encode is False:
        return LabelColumn(_decoded(factors))
    return LabelColumn(np.concatenate([_recoded(part, encoder) for part in factors]), encoder)


def group_numbers(columns: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.int64]:
    """Returns the number of the combination of values of each row. Missing values are equal to one another."""
    joint: npt.NDArray[np.int64] | None = None
    for column in columns:
        if column.dtype == object:
            position: dict[Any, int] = {}
            numbers = np.fromiter(
                (position.setdefault(value, len(position)) for value in column), np.int64, len(column)
            )
        else:
            numbers = np.unique(column, return_inverse=True)[1].astype(np.int64)
        if joint is None:
            joint = numbers
        else:
            joint = np.unique(joint * (int(numbers.max(initial=0)) + 1) + numbers, return_inverse=True)[1]
    assert joint is not None, "there is a column"
    return joint.astype(np.int64)


def _is_number(column: pd.Series) -> bool:
    import pandas as pd

    return bool(pd.api.types.is_numeric_dtype(column.dtype)) and not pd.api.types.is_bool_dtype(column.dtype)


def _numbers(columns: Sequence[pd.Series]) -> npt.NDArray[Any]:
    """Returns numbers in one type. A column with missing values is float64 with NaN."""
    arrays = []
    for column in columns:
        if isinstance(column.dtype, np.dtype):
            arrays.append(column.to_numpy())
        elif column.isna().any():
            arrays.append(column.to_numpy(np.float64, na_value=np.nan))
        else:
            arrays.append(np.asarray(column.array, getattr(column.dtype, "numpy_dtype", None)))
    return np.concatenate(arrays)


def _factorized(column: pd.Series, file: str) -> _Part:
    import pandas as pd

    if isinstance(column.dtype, pd.CategoricalDtype):
        codes = np.asarray(column.cat.codes, np.int64)
        used = np.unique(codes[codes >= 0])
        position = np.full(len(column.cat.categories) + 1, MISSING_CODE, np.int64)
        position[used] = np.arange(len(used))
        return _Part(position[codes], [_plain(value) for value in column.cat.categories[used]], file)
    local, values = pd.factorize(column, use_na_sentinel=True)
    return _Part(np.asarray(local, np.int64), [_plain(value) for value in values], file)


def _plain(value: Any) -> Any:
    """Returns a value as one of Python, so that equal values of different types are one."""
    return value.item() if isinstance(value, np.generic) else value


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "booleans"
    return "numbers" if isinstance(value, int | float) else "text" if isinstance(value, str) else type(value).__name__


def _joint_encoder(key: str, parts: Sequence[_Part]) -> Encoder:
    kinds = {part.kind for part in parts if part.values}
    if len(kinds) > 1 or not kinds <= {"booleans", "numbers", "text"}:
        texts = ", ".join(f"{part.kind} in {part.file}" for part in parts if part.values)
        raise TypeMismatchError(
            f"obs[{key!r}] holds values of several types or of a type that is no label: {texts}. Labels are text, "
            "categories, booleans or numbers"
        )
    values = {value for part in parts for value in part.values}
    return {value: code for code, value in enumerate(sorted(values))}


def _recoded(part: _Part, encoder: Encoder) -> npt.NDArray[np.int64]:
    codes = np.array([*(encoder[value] for value in part.values), MISSING_CODE], np.int64)
    recoded: npt.NDArray[np.int64] = codes[part.codes]
    return recoded


def _decoded(parts: Sequence[_Part]) -> npt.NDArray[Any]:
    """Returns the values themselves: text as objects with None, booleans and numbers as float64 if some are missing."""
    is_text = any(isinstance(value, str) for part in parts for value in part.values)
    has_missing = any((part.codes == MISSING_CODE).any() for part in parts)
    missing = None if is_text or not any(part.values for part in parts) else np.nan
    kind: Any = object if missing is None else np.float64 if has_missing else None
    arrays = []
    for part in parts:
        values = np.array([*part.values, missing] if kind is not None else part.values, kind)
        arrays.append(values[part.codes])
    return np.concatenate(arrays)
