"""`import lakefeed` is cheap, and what it offers is what it says."""

from __future__ import annotations

import json
import pickle
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

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


@pytest.mark.parametrize("package", ["lakefeed", "lakefeed.catalog", "lakefeed.run", "lakefeed.storage"])
def test_every_public_name_is_there_and_not_that_of_a_module(package: str) -> None:
    module = import_module(package)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    modules = {info.name for info in pkgutil.iter_modules(module.__path__)}
    assert modules & set(module.__all__) <= {"errors"}


def test_a_module_is_imported_when_it_is_used_and_replaced_through_its_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lazy_package").mkdir()
    (tmp_path / "lazy_package" / "__init__.py").write_text(
        "from lakefeed._lazy import lazy_attributes\n__getattr__ = lazy_attributes(__name__, {'inner': ('NUMBER',)})\n"
    )
    (tmp_path / "lazy_package" / "inner.py").write_text("NUMBER = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    package = import_module("lazy_package")
    inner = package.inner
    assert "lazy_package.inner" not in sys.modules
    assert (package.NUMBER, inner.NUMBER, "NUMBER" in dir(inner)) == (1, 1, True)
    assert pickle.loads(pickle.dumps(inner)) is package.inner is sys.modules["lazy_package.inner"]
    monkeypatch.setattr(inner, "NUMBER", 2)
    assert package.inner.NUMBER == 2
    monkeypatch.delattr(inner, "NUMBER")
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = package.absent
    with pytest.raises(ImportError, match="absent"):
        exec("from lazy_package import absent")


def _is_public(name: str) -> bool:
    value = getattr(lakefeed, name)
    submodule = isinstance(value, ModuleType) and value.__name__.startswith("lakefeed.")
    return not name.startswith("_") and name != "annotations" and not submodule
