"""Every public name says what it is."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import lakefeed

NAMES = [name for name in lakefeed.__all__ if not name.startswith("__")]
FACADE = [kind for kind in lakefeed.Dataset.__mro__ if kind.__module__.startswith("lakefeed.dataset")]
MOST_LINES = 300
"""Of a class, docstrings left out."""

PACKAGE = Path(lakefeed.__file__).parent
MODULES = {path: ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
CLASSES = [name for name in NAMES if inspect.isclass(getattr(lakefeed, name))]


@pytest.mark.parametrize("name", NAMES)
def test_public_name_has_a_docstring(name: str) -> None:
    assert inspect.getdoc(getattr(lakefeed, name)), f"lakefeed.{name} has no docstring"


@pytest.mark.parametrize("name", CLASSES)
def test_public_methods_have_docstrings(name: str) -> None:
    members = {key: value for each in _ours(getattr(lakefeed, name)) for key, value in vars(each).items()}
    assert [key for key, value in members.items() if _is_method(key, value) and not inspect.getdoc(value)] == []


@pytest.mark.parametrize("kind", FACADE, ids=lambda kind: kind.__name__)
def test_the_class_that_people_use_stays_a_facade(kind: type) -> None:
    """Its methods build nodes or call what does the work, in five lines or fewer."""
    (tree,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(tree, ast.ClassDef)
    methods = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    long = {node.name for node in methods if len(node.body) - (ast.get_docstring(node) is not None) > 5}
    assert long == set()


def test_no_class_is_long() -> None:
    long = {
        f"{path.relative_to(PACKAGE)}: {tree.name}"
        for path, module in MODULES.items()
        for tree in ast.walk(module)
        if isinstance(tree, ast.ClassDef) and _lines_of_code(tree) > MOST_LINES
    }
    assert long <= {"sources/iceberg_source.py: IcebergSource"}  # older than the limit


def test_the_inside_of_a_dataset_is_touched_by_its_own_package_only() -> None:
    """The others go through `lakefeed.dataset.plan_of` and its like."""
    private = {name for each in _ours(lakefeed.Dataset) for name in (*vars(each), *each.__annotations__)}
    private = {name for name in private if name.startswith("_") and not name.endswith("_")}
    assert "_plan" in private
    touched = {
        f"{path.relative_to(PACKAGE)}: {node.attr}"
        for path, module in MODULES.items()
        if path.parent != PACKAGE / "dataset"
        for node in ast.walk(module)
        if isinstance(node, ast.Attribute) and node.attr in private and not _is_self(node.value)
    }
    assert touched == set()


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _ours(kind: type) -> list[type]:
    return [each for each in kind.__mro__ if each.__module__.startswith("lakefeed")]


def _lines_of_code(tree: ast.ClassDef) -> int:
    methods = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return _lines(tree) - sum(_lines(node.body[0]) for node in (tree, *methods) if ast.get_docstring(node) is not None)


def _lines(node: ast.stmt) -> int:
    return (node.end_lineno or 0) - node.lineno + 1


def _is_method(name: str, value: object) -> bool:
    kinds = (property, classmethod, staticmethod)
    return not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, kinds))
