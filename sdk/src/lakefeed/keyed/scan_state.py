"""The state of a scan as JSON: its versions, columns and condition, so that it gives the same rows elsewhere."""

from __future__ import annotations

import base64
import importlib
import json
from typing import Any

import pyarrow as pa

from lakefeed.catalog.lake import Lake
from lakefeed.errors import StateMismatchError, UnsupportedError
from lakefeed.expr import Term
from lakefeed.keyed.pinned_table import PinnedTable
from lakefeed.keyed.projections import Aux, Call, Cast, Fetch, Tree
from lakefeed.keyed.scan_reader import ScanReader

FORMAT = 1


def dump_state(reader: ScanReader) -> str:
    """Returns the state of a scan.

    Raises:
        UnsupportedError: it calls a function that has no name in a module.
    """
    state = {
        "format": FORMAT,
        "tables": [table.state() for table in reader.tables],
        "columns": dump_tree(reader.tree),
        "where": reader.where,
    }
    return json.dumps(state)


def load_state(lake: Lake, text: Any) -> ScanReader:
    """Returns the scan of a state.

    Raises:
        StateMismatchError: this is not the state of a scan.
        DatasetNotFoundError, VersionNotFoundError: a table or version is gone.
    """
    try:
        state = json.loads(text)
        if state["format"] != FORMAT:
            raise ValueError(f"format {state['format']}")
        tables, columns, where = state["tables"], state["columns"], state["where"]
        named = [{key: each[key] for key in ("table", "uuid", "version", "snapshot", "schema")} for each in tables]
    except (ValueError, TypeError, KeyError) as error:
        raise StateMismatchError(f"state_json is not the state of a scan: {error!r:.80}, in {text!r:.80}") from None
    return ScanReader(tuple(PinnedTable.resumed(lake, each) for each in named), load_tree(columns), where)


def dump_tree(tree: Tree) -> dict[str, Any]:
    """Returns the columns of a scan in a form that JSON has."""
    return {
        name: {"struct": dump_tree(value)} if isinstance(value, dict) else _dump(value) for name, value in tree.items()
    }


def _dump(value: Any) -> dict[str, Any]:
    match value:
        case Term():
            return {"term": value.text}
        case Cast():
            return {"cast": _dump(value.value), "type": _dump_type(value.type)}
        case Aux():
            return {"aux": value.name, "type": _dump_type(value.type)}
        case Fetch():
            return {"fetch": _dump(value.value), "abort_on_error": value.abort_on_error}
        case Call():
            arguments = [_dump(each) for each in value.arguments]
            if not isinstance(value.type, pa.DataType):
                raise UnsupportedError("the state of a scan cannot hold a UDF whose type depends on its arguments")
            return {"call": _reference(value), "arguments": arguments, "type": _dump_type(value.type)}
    raise UnsupportedError(f"{value!r:.80} has no text")


def _reference(call: Call) -> str:
    function = call.function
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    reference = call.reference or f"{module}:{name}"
    if not call.reference and (module in (None, "__main__") or "<" in name):
        raise UnsupportedError(
            f"the state of a scan cannot name the function {name or function!r}; define it at the top of a module"
        )
    return reference


def load_tree(tree: dict[str, Any]) -> Tree:
    """Returns the columns that `dump_tree` wrote."""
    return {name: load_tree(value["struct"]) if "struct" in value else _load(value) for name, value in tree.items()}


def _load(value: dict[str, Any]) -> Any:
    if "term" in value:
        return Term(value["term"])
    if "cast" in value:
        return Cast(_load(value["cast"]), _load_type(value["type"]))
    if "aux" in value:
        return Aux(value["aux"], _load_type(value["type"]))
    if "fetch" in value:
        return Fetch(_load(value["fetch"]), value["abort_on_error"])
    module, _, path = value["call"].partition(":")
    try:
        function: Any = importlib.import_module(module)
        for step in path.split("."):
            function = getattr(function, step)
    except (ImportError, AttributeError) as error:
        raise StateMismatchError(f"the function {value['call']!r} of the scan is not there: {error}") from None
    function = getattr(function, "__wrapped__", function)
    return Call(function, tuple(map(_load, value["arguments"])), _load_type(value["type"]), value["call"])


def _dump_type(kind: pa.DataType) -> str:
    return base64.b64encode(pa.schema([pa.field("value", kind)]).serialize().to_pybytes()).decode()


def _load_type(packed: str) -> pa.DataType:
    kind: pa.DataType = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(packed))).field(0).type
    return kind
