"""Old public names still work and say what replaces them."""

from __future__ import annotations

from importlib import import_module

import pytest


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [("lakefeed.routines", "ByHand", "Manual"), ("lakefeed.ingest", "Landed", "ListedFile")],
)
def test_an_old_name_warns_and_gives_the_new_one(module: str, old: str, new: str) -> None:
    package = import_module(module)
    with pytest.warns(DeprecationWarning, match=rf"{module}\.{old} is deprecated; use {module}\.{new}"):
        assert getattr(package, old) is getattr(package, new)
    assert old not in package.__all__
    with pytest.raises(AttributeError, match=r"has no attribute 'Nonsense'"):
        _ = package.Nonsense
