"""Functions of users as values of a projection."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from lakefeed._validate import check_data_type, check_flag, check_function, check_text
from lakefeed.errors import InvalidArgumentError
from lakefeed.expr import Term
from lakefeed.keyed.projections import Call, Fetch, Named, to_value


class UserFunction:
    """A function over terms; `udf` makes one."""

    def __init__(self, function: Callable[..., Any], return_type: pa.DataType) -> None:
        self._function, self._type = check_function(function, "udf"), return_type
        functools.update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:
        """Returns the value for terms; for arrays, what the function returns."""
        if any(isinstance(each, pa.Array | pa.ChunkedArray) for each in arguments):
            return self._function(*arguments)
        function = self._function
        module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "<function>")
        named = module not in (None, "__main__") and "<" not in name
        return Call(function, tuple(map(to_value, arguments)), self._type, f"{module}:{name}" if named else "")


def udf(return_type: pa.DataType) -> Callable[[Callable[..., Any]], UserFunction]:
    """Returns a decorator that makes a function usable in projections.

    The function gets Arrow arrays, one for each argument, and returns as many values.

    Args:
        return_type: the Arrow type of the values.

    Raises:
        InvalidArgumentError: this is not an Arrow type.

    Example:
        >>> @udf(pa.int64())
        ... def length(text):
        ...     return [len(each) for each in text.to_pylist()]
        >>> table = Table.create("texts", key_schema={"id": pa.int64()})
        >>> _ = table.write({"id": [1, 2], "text": ["a", "bbb"]})
        >>> table.scan({"length": length(table["text"])}).to_table().to_pydict()
        {'length': [1, 3]}
    """
    kind = check_data_type(return_type)
    return lambda function: UserFunction(function, kind)


def fetch(value: Any, abort_on_error: bool = False) -> Fetch:
    """Returns the contents of files as a value, for projections: bytes, fetched in parallel.

    Args:
        value: the URLs or paths: a term, or the name of a column.
        abort_on_error: raise if a file cannot be loaded. By default its content is null, and a warning counts them.

    Raises:
        InvalidArgumentError: an argument is malformed.
    """
    if not isinstance(value, Term | str | Call | Named) or (isinstance(value, str) and not value):
        raise InvalidArgumentError(f"value must be a term or the name of a column, got {value!r:.80}")
    from lakefeed.expr import col

    return Fetch(
        col(value) if isinstance(value, str) else to_value(value), check_flag(abort_on_error, "abort_on_error")
    )


class UDF:
    """A base class of functions over terms whose type depends on those of their arguments.

    A subclass defines ``return_type(*types)`` and ``invoke(*arrays)``.

    Example:
        >>> class Negative(UDF):
        ...     def return_type(self, *types):
        ...         return types[0]
        ...     def invoke(self, *arrays):
        ...         return pc.negate(arrays[0])
        >>> import pyarrow.compute as pc
        >>> table = Table.create("signs", key_schema={"id": pa.int64()})
        >>> _ = table.write({"id": [1], "x": [5]})
        >>> table.scan({"y": Negative("negative")(table["x"])}).to_table().to_pydict()
        {'y': [-5]}
    """

    def __init__(self, name: str) -> None:
        self.name = check_text(name, "name")

    def return_type(self, *types: pa.DataType) -> pa.DataType:
        """Returns the type of the values for arguments of these types."""
        raise NotImplementedError(f"{type(self).__name__}.return_type")

    def invoke(self, *arrays: Any) -> Any:
        """Returns the values for Arrow arrays."""
        raise NotImplementedError(f"{type(self).__name__}.invoke")

    def __call__(self, *arguments: Any) -> Call:
        """Returns the value for terms."""
        return Call(self.invoke, tuple(map(to_value, arguments)), self.return_type)
