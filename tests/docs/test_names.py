"""Every public name says what it is."""

from __future__ import annotations

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


def _is_method(name: str, value: object) -> bool:
    kinds = (property, classmethod, staticmethod)
    return not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, kinds))
