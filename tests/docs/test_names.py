"""Every public name says what it is."""

from __future__ import annotations

import ast
import inspect
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

import lakefeed

NAMES = [name for name in lakefeed.__all__ if not name.startswith("__")]
FACADE = [kind for kind in lakefeed.Dataset.__mro__ if kind.__module__.startswith("lakefeed.dataset")]
MAX_CLASS_LINES = 300
"""Lines of a class without docstrings."""
MAX_MODULE_LINES = 600

METHODS = sorted(
    {
        name
        for kind in FACADE
        for name, value in vars(kind).items()
        if name[0] != "_" and not isinstance(value, property)
    }
)
PACKAGE = Path(lakefeed.__file__).parent
PROJECT = Path(__file__).parents[2]
CLASSES = [name for name in NAMES if inspect.isclass(getattr(lakefeed, name))]


MODULES = sorted(PACKAGE.rglob("*.py"))


@dataclass
class Module:
    """Facts of a module. Its syntax tree is not held: trees of all modules would slow down each garbage collection."""

    classes: dict[str, int] = field(default_factory=dict)
    """The lines of code of the classes."""
    touched: set[str] = field(default_factory=set)
    """The private attributes that it touches of other objects than `self`."""


@cache
def modules() -> dict[Path, Module]:
    return {path: _facts(path) for path in MODULES}


def _facts(path: Path) -> Module:
    facts = Module()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ClassDef):
            facts.classes[node.name] = _lines_of_code(node)
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not _is_self(node.value):
            facts.touched.add(node.attr)
    return facts


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
        f"{path.relative_to(PACKAGE)}: {name}"
        for path, module in modules().items()
        for name, lines in module.classes.items()
        if lines > MAX_CLASS_LINES
    }
    assert long <= {"sources/iceberg_source.py: IcebergSource"}  # older than the limit


def test_no_module_is_long() -> None:
    lengths = {path.relative_to(PACKAGE).as_posix(): len(path.read_text("utf-8").splitlines()) for path in MODULES}
    assert {name for name, lines in lengths.items() if lines > MAX_MODULE_LINES} == set()


def test_modules_of_the_sdk_have_unique_names() -> None:
    assert _repeated(path.stem for path in MODULES if path.stem != "__init__") == []


def test_modules_of_the_dagster_project_have_unique_names() -> None:
    """Those that declarations import are called as in the SDK: `dataset`, `ingestion`, `routine`."""
    folders = [PROJECT / name for name in ("dataset_assets", "resources", "sensors")]
    names = [path.stem for folder in folders for path in folder.glob("*.py") if path.stem != "__init__"]
    assert _repeated([*names, "definitions"]) == []
    taken = {path.parent.name if path.stem == "__init__" else path.stem for path in MODULES}
    assert taken.intersection(names) <= {"dataset", "ingestion", "routine"}


@pytest.mark.parametrize("name", METHODS)
def test_methods_of_dataset_document_arguments_and_results(name: str) -> None:
    method = getattr(lakefeed.Dataset, name)
    doc, signature = (inspect.getdoc(method) or "").replace("*", ""), inspect.signature(method)
    assert [each for each in signature.parameters if each != "self" and f"\n    {each}: " not in doc] == []
    assert signature.return_annotation == "None" or re.search(r"\b(Returns|Yields)\b", doc)


def test_the_inside_of_a_dataset_is_touched_by_its_own_package_only() -> None:
    """The others go through `lakefeed.dataset.plan_of` and its like."""
    private = {name for each in _ours(lakefeed.Dataset) for name in (*vars(each), *each.__annotations__)}
    private = {name for name in private if name.startswith("_") and not name.endswith("_")}
    assert "_plan" in private
    touched = {
        f"{path.relative_to(PACKAGE)}: {name}"
        for path, module in modules().items()
        if path.parent != PACKAGE / "dataset"
        for name in module.touched & private
    }
    assert touched == set()


def _repeated(names: Iterable[str]) -> list[str]:
    return sorted(name for name, times in Counter(names).items() if times > 1)


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
