"""Checks of single arguments: whole numbers, flags, text, names, schemas.

Checks of several arguments together are in the constructors of nodes, sources, writes and loaders.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from lakefeed.errors import InvalidArgumentError, MissingDependencyError, SchemaError, TypeMismatchError, quoted_list

MAX_SECONDS = 366 * 24 * 3600
MAX_SEED = 2**63


def is_whole(value: Any) -> bool:
    """Returns whether this is a whole number of Python or NumPy."""
    return hasattr(value, "__index__") and not isinstance(value, bool)


def is_list(value: Any) -> bool:
    """Returns whether this is an iterable of several items; text and mappings are not."""
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping | pa.Schema | type)


def check_flag(value: Any, name: str) -> bool:
    """Returns True or False."""
    if not isinstance(value, bool):
        raise InvalidArgumentError(f"{name} must be True or False, got {value!r:.80}")
    return value


def check_whole(value: int, name: str) -> int:
    """Returns a whole number that is not negative."""
    if not is_whole(value) or value < 0:
        raise InvalidArgumentError(f"{name} must be a whole number of at least 0, got {value!r:.80}")
    return int(value)


def check_seed(value: int) -> int:
    """Returns a seed."""
    if not is_whole(value) or not -MAX_SEED <= value < MAX_SEED:
        raise InvalidArgumentError(f"seed must be a whole number of 64 bits, got {value!r:.80}")
    return int(value)


def check_seconds(value: Any, name: str) -> float:
    """Returns a positive time in seconds."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value <= MAX_SECONDS:
        raise InvalidArgumentError(
            f"{name} must be seconds above 0 and up to {MAX_SECONDS:,} (a year), got {value!r:.80}"
        )
    return float(value)


def check_text(value: Any, name: str) -> str:
    """Returns text, which may be empty and can be written as UTF-8."""
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{name} must be text, got {value!r:.80}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(
            f"{name} must be valid Unicode, got {value!r:.80}, which has half of a surrogate pair at {error.start}"
        ) from None
    return value


def check_column_name(value: Any, name: str) -> str:
    """Returns the name of a new column."""
    if not check_text(value, name):
        raise InvalidArgumentError(f"{name} must be the name of a column, got {value!r}")
    return str(value)


def list_names(value: Any) -> tuple[str, ...]:
    """Returns the names in a list, or the single name, or nothing if this is neither."""
    names = (value,) if isinstance(value, str) else tuple(value) if is_list(value) else ()
    return names if all(isinstance(name, str) for name in names) else ()


def check_keys(value: Any) -> tuple[str, ...]:
    """Returns the names of one or several columns."""
    names = list_names(value)
    if not names:
        raise InvalidArgumentError(f"keys must be the name of a column or a list of names, got {value!r:.80}")
    return names


def check_function(value: Any, method: str) -> Any:
    """Returns a callable."""
    if not callable(value):
        raise InvalidArgumentError(
            f"{method} needs a function{' or an expression' if method == 'filter' else ''}, not {value!r:.80}"
        )
    return value


def check_data_type(value: Any) -> pa.DataType:
    """Returns an Arrow type."""
    if not isinstance(value, pa.DataType):
        raise InvalidArgumentError(f"type must be a pyarrow type such as pa.int64(), got {value!r:.80}")
    return value


def check_schema(value: pa.Schema) -> pa.Schema:
    """Returns a pyarrow schema with unique names."""
    if not isinstance(value, pa.Schema):
        raise TypeMismatchError(
            f"schema must be a pyarrow.Schema such as pa.schema({{'x': pa.int64()}}), got {value!r:.80}"
        )
    twice = sorted(name for name, times in Counter(value.names).items() if times > 1)
    if not value.names:
        raise SchemaError("a dataset needs at least one column, and the schema has none")
    if twice:
        raise SchemaError(f"schema: column names must be unique; {quoted_list(twice)} occur more than once")
    return value


def check_optional_schema(value: Any) -> pa.Schema | None:
    """Returns a pyarrow schema with unique names, or None."""
    return None if value is None else check_schema(value)


@contextmanager
def require_torch(method: str) -> Iterator[None]:
    """Turns a failed import of PyTorch into an error that says how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingDependencyError(f"{method} needs PyTorch: pip install 'lakefeed[torch]'") from error


def is_auto(value: Any) -> bool:
    """Returns whether files take the form that suits their type best: ``True`` or "auto", but not 1."""
    return value is True or (isinstance(value, str) and value == "auto")
