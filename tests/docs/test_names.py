"""Every public name says what it is."""

from __future__ import annotations

import ast
import inspect

import pytest

import lakefeed

NAMES = [name for name in lakefeed.__all__ if not name.startswith("__")]
CLASSES = [name for name in NAMES if inspect.isclass(getattr(lakefeed, name))]


@pytest.mark.parametrize("name", NAMES)
def test_public_name_has_a_docstring(name: str) -> None:
    assert inspect.getdoc(getattr(lakefeed, name)), f"lakefeed.{name} has no docstring"


@pytest.mark.parametrize("name", CLASSES)
def test_public_methods_have_docstrings(name: str) -> None:
    members = {key: value for key, value in vars(getattr(lakefeed, name)).items() if _is_method(key, value)}
    assert [key for key, value in members.items() if not inspect.getdoc(value)] == []


def test_the_class_that_people_use_stays_a_facade() -> None:
    """Its methods build nodes or call what does the work, in five lines or fewer."""
    (tree,) = ast.parse(inspect.getsource(lakefeed.Dataset)).body
    assert isinstance(tree, ast.ClassDef)
    methods = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    docstrings = sum(_lines(node.body[0]) for node in (tree, *methods) if ast.get_docstring(node) is not None)
    assert _lines(tree) - docstrings < 450
    long = {node.name for node in methods if len(node.body) - (ast.get_docstring(node) is not None) > 5}
    assert long == set()


def _lines(node: ast.stmt) -> int:
    return (node.end_lineno or 0) - node.lineno + 1


def _is_method(name: str, value: object) -> bool:
    kinds = (property, classmethod, staticmethod)
    return not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, kinds))
