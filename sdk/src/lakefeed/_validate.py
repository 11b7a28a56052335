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


def is_whole(given: Any) -> bool:
    """Returns whether this is a whole number of Python or NumPy."""
    return hasattr(given, "__index__") and not isinstance(given, bool)


def is_list(given: Any) -> bool:
    """Returns whether this is an iterable of several items; text and mappings are not."""
    return isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping | pa.Schema | type)


def check_flag(given: Any, name: str) -> bool:
    """Returns True or False."""
    if not isinstance(given, bool):
        raise InvalidArgumentError(f"{name}={given!r}: it is True or False")
    return given


def check_whole(given: int, name: str) -> int:
    """Returns a whole number that is not negative."""
    if not is_whole(given) or given < 0:
        raise InvalidArgumentError(f"{name}({given!r}): give a whole number from 0 on")
    return int(given)


def check_seed(given: int) -> int:
    """Returns a seed."""
    if not is_whole(given) or not -MAX_SEED <= given < MAX_SEED:
        raise InvalidArgumentError(f"seed={given!r}: a seed is a whole number of 64 bits")
    return int(given)


def check_seconds(given: Any, name: str) -> float:
    """Returns a positive time in seconds."""
    number = isinstance(given, int | float) and not isinstance(given, bool)
    if not number or not 0 < given <= MAX_SECONDS:
        raise InvalidArgumentError(f"{name}={given!r:.80}: give seconds, above 0 and up to {MAX_SECONDS:,} (a year)")
    return float(given)


def check_text(given: Any, name: str) -> str:
    """Returns text, which may be empty."""
    if not isinstance(given, str):
        raise InvalidArgumentError(f"{name}={given!r:.80}: give text")
    return given


def check_column_name(given: Any, name: str) -> str:
    """Returns the name of a new column."""
    if not check_text(given, name):
        raise InvalidArgumentError(f"{name}={given!r}: a column needs a name")
    return str(given)


def list_names(given: Any) -> tuple[str, ...]:
    """Returns the names in a list, or the single name, or nothing if this is neither."""
    names = (given,) if isinstance(given, str) else tuple(given) if is_list(given) else ()
    return names if all(isinstance(name, str) for name in names) else ()


def check_keys(given: Any) -> tuple[str, ...]:
    """Returns the names of one or several columns."""
    names = list_names(given)
    if not names:
        raise InvalidArgumentError(f"keys={given!r:.80}: give the name of a column, or a list of names")
    return names


def check_function(given: Any, method: str) -> Any:
    """Returns a callable."""
    if not callable(given):
        raise InvalidArgumentError(
            f"{method} needs a function{' or an expression' if method == 'filter' else ''}, not {given!r:.80}"
        )
    return given


def check_data_type(given: Any) -> pa.DataType:
    """Returns an Arrow type."""
    if not isinstance(given, pa.DataType):
        raise InvalidArgumentError(f"type={given!r:.80}: give a pyarrow type, such as pa.int64()")
    return given


def check_schema(given: pa.Schema) -> pa.Schema:
    """Returns a pyarrow schema with unique names."""
    if not isinstance(given, pa.Schema):
        raise TypeMismatchError(f"schema={given!r:.80}: give a pyarrow.Schema, such as pa.schema({{'x': pa.int64()}})")
    twice = sorted(name for name, times in Counter(given.names).items() if times > 1)
    if not given.names:
        raise SchemaError("a dataset needs at least one column, and the schema has none")
    if twice:
        raise SchemaError(f"schema: column names must differ; {quoted_list(twice)} occur more than once")
    return given


def check_optional_schema(given: Any) -> pa.Schema | None:
    """Returns a pyarrow schema with unique names, or None."""
    return None if given is None else check_schema(given)


@contextmanager
def require_torch(method: str) -> Iterator[None]:
    """Turns a failed import of PyTorch into an error that says how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingDependencyError(f"{method} needs PyTorch: pip install 'lakefeed[torch]'") from error


def is_auto(given: Any) -> bool:
    """Whether files are to become what their type is best used as; ``True`` is another word for "auto", 1 is not."""
    return given is True or (isinstance(given, str) and given == "auto")
