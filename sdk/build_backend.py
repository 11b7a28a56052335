"""Builds the package in a folder of its own each time.

The build folder of setuptools keeps what earlier builds copied there, so that a module that is gone from the source
would still be in the wheel.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403 - the other hooks as they are

EXTRA_CONFIG = "DIST_EXTRA_CONFIG"


def build_wheel(directory: str, settings: Any = None, metadata_directory: str | None = None) -> str:
    """The name of the wheel, made in ``directory``."""
    with _own_folder():
        return str(build_meta.build_wheel(directory, settings, metadata_directory))


@contextlib.contextmanager
def _own_folder() -> Iterator[None]:
    before = os.environ.get(EXTRA_CONFIG)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "extra.cfg"
        given = Path(before).read_text(encoding="utf-8") if before else ""
        config.write_text(f"{given}\n[build]\nbuild_base = {folder}/build\n", encoding="utf-8")
        os.environ[EXTRA_CONFIG] = str(config)
        try:
            yield
        finally:
            if before is None:
                del os.environ[EXTRA_CONFIG]
            else:
                os.environ[EXTRA_CONFIG] = before
