"""`import lakefeed` is cheap, and what it offers is what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from types import ModuleType

import lakefeed

HEAVY = {"torch", "pandas", "duckdb", "dagster", "PIL", "scipy", "sklearn", "s3fs", "hypothesis", "pytest"}
HEAVY |= {"av", "datasets", "mcap", "polars"}
LIST_MODULES = "import json, sys, lakefeed; json.dump(sorted(sys.modules), sys.stdout)"


def test_import_loads_no_heavy_library() -> None:
    loaded = subprocess.run([sys.executable, "-c", LIST_MODULES], capture_output=True, check=True, text=True).stdout
    assert HEAVY & set(json.loads(loaded)) == set()


def test_all_is_sorted_and_equals_the_public_namespace() -> None:
    assert list(lakefeed.__all__) == sorted(lakefeed.__all__)
    assert set(lakefeed.__all__) == {name for name in dir(lakefeed) if _is_public(name)} | {"errors"}


def test_every_public_name_is_there() -> None:
    assert [name for name in lakefeed.__all__ if not hasattr(lakefeed, name)] == []


def _is_public(name: str) -> bool:
    value = getattr(lakefeed, name)
    submodule = isinstance(value, ModuleType) and value.__name__.startswith("lakefeed.")
    return not name.startswith("_") and name != "annotations" and not submodule
