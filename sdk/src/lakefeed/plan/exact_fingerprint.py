"""A fingerprint for rows that are kept on disk: it tells apart all that gives other rows, or says that it cannot."""

from __future__ import annotations

from typing import Any

from lakefeed.plan.fingerprint import digest, fingerprint
from lakefeed.plan.node import Node
from lakefeed.plan.value_text import InexactError, ValueText
from lakefeed.plan.walk import nodes, sources


def exact_fingerprint(plan: Node) -> str | None:
    """Returns a digest that two plans share only if they give the same rows; None where that cannot be told.

    Files and servers that functions read are not seen.
    """
    if not all(source.exact_identity for source in sources(plan)):
        return None
    return functions_fingerprint(plan)


def functions_fingerprint(plan: Node) -> str | None:
    """Returns a digest that two plans share only if their functions are the same; None where that cannot be told.

    Sources count by their identities, which may stay the same when the rows change.
    """
    functions = [function for node in nodes(plan) for function in _callables(node.identity())]
    if not functions:
        return fingerprint(plan)
    try:
        return digest([fingerprint(plan), *map(ValueText(exact=True).text, functions)])
    except (InexactError, RecursionError):
        return None


def _callables(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [found for item in value.values() for found in _callables(item)]
    if isinstance(value, list | tuple):
        return [found for item in value for found in _callables(item)]
    return [value] if callable(value) else []
