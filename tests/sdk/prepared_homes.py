"""Homes that are full when a test begins."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


class PreparedHomes:
    """Homes with datasets that the tests of a module change: written once, and put back as they were for each test.

    A home stands at one path for all tests, as the metadata of tables has absolute paths.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def enter(self, name: str, build: Callable[[], object], patch: pytest.MonkeyPatch) -> Path:
        """Returns the home, which is that of the settings from now on; ``build`` fills the first one of this name."""
        home, copy = self._folder / name / "home", self._folder / name / "copy"
        patch.setenv("LAKEFEED_HOME", str(home))
        if copy.exists():
            shutil.rmtree(home)
            shutil.copytree(copy, home, symlinks=True)
        else:
            build()
            shutil.copytree(home, copy, symlinks=True)
        return home
