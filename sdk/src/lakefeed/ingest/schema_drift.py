"""The evolution of a dataset with its files: it adds columns and widens types, and removes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from lakefeed.dataset import Dataset
from lakefeed.errors import InvalidArgumentError, SchemaError, TypeMismatchError, UnsupportedError


class UnfitColumnError(TypeMismatchError):
    """The types of a column have no common wider type. ``path`` is the file that differs."""

    path: str = ""


def evolve_schema(name: str, files: Mapping[str, pa.Schema]) -> pa.Schema:
    """Returns the schema that all files fit. It gives the dataset ``name`` these columns, if that exists.

    Raises:
        UnfitColumnError: the types of a column have no common wider type, or the dataset cannot store it.
        SchemaError: a new dataset cannot store a column.
    """
    existing = Dataset(name) if Dataset.exists(name) else None
    media = existing.column_types if existing is not None else {}
    before = {field.name: field for field in existing.schema} if existing is not None else {}
    fields = {column: field for column, field in before.items() if column not in media}
    origins: dict[str, str] = {}
    for path, schema in files.items():
        for field in schema:
            known = fields.get(field.name)
            fields[field.name] = _wider(known, field, path)
            if known is None or known.type != fields[field.name].type:
                origins[field.name] = path
    for column, field in fields.items() if existing is not None else ():
        if column not in media and (column not in before or field.type != before[column].type):
            _change_column(name, field, origins[column], is_new=column not in before)
    return pa.schema([field.with_nullable(True) for field in fields.values()])


def _change_column(name: str, field: pa.Field[Any], path: str, *, is_new: bool) -> None:
    """Adds a column to a dataset, or widens its type, for a file."""
    try:
        if is_new:
            Dataset(name).add_column(field.name, field.type)
        else:
            Dataset(name).widen_column(field.name, field.type)
    except (InvalidArgumentError, SchemaError, UnsupportedError) as error:
        unfit = UnfitColumnError(f"column {field.name!r} is other in {path!r}: {error}")
        unfit.path = path
        raise unfit from error


def _wider(known: pa.Field[Any] | None, new: pa.Field[Any], path: str) -> pa.Field[Any]:
    if known is None or known.type == new.type:
        return new if known is None else known
    old, more = (field.with_type(_decoded_type(field.type)) for field in (known, new))
    try:
        if _is_binary(old.type) != _is_binary(more.type) and pa.null() not in (old.type, more.type):
            raise pa.ArrowTypeError("text does not hold all bytes")  # Arrow makes bytes of text
        kind = pa.unify_schemas([pa.schema([old]), pa.schema([more])], promote_options="permissive").field(0).type
    except (pa.ArrowTypeError, pa.ArrowInvalid, pa.ArrowNotImplementedError):
        error = UnfitColumnError(
            f"column {new.name!r} is {new.type} in {path!r} and {known.type} before; no type holds both"
        )
        error.path = path
        raise error from None
    return known.with_type(kind)


def _decoded_type(kind: pa.DataType) -> pa.DataType:
    """Returns the type of the values: whether a writer has encoded them by a dictionary is a matter of chance."""
    return kind.value_type if isinstance(kind, pa.DictionaryType) else kind


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
