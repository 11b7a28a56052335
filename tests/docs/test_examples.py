"""The examples in docstrings run as they stand, those of one module in one lake."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import lakefeed

NAMES = {name: getattr(lakefeed, name) for name in lakefeed.__all__} | {"pa": pa}


# Their examples start processes, or import PyTorch.
SLOW = {"lakefeed.compute.distributed_write", "lakefeed.dataset.constructors"}


def _modules_with_examples() -> list[Any]:
    modules = []
    for module in pkgutil.walk_packages(lakefeed.__path__, "lakefeed."):
        source = Path(lakefeed.__file__).parent.joinpath(*module.name.split(".")[1:])
        path = source / "__init__.py" if module.ispkg else source.with_suffix(".py")
        if ">>> " in path.read_text("utf-8"):
            marks = [pytest.mark.live] if module.name in SLOW else []
            modules.append(pytest.param(module.name, marks=marks))
    return modules


@pytest.mark.parametrize("name", _modules_with_examples())
def test_examples_in_docstrings_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module, package = importlib.import_module(name), importlib.import_module(name.rpartition(".")[0])
    names = {**NAMES, **vars(package), **vars(module)}
    problems: list[str] = []
    runner = doctest.DocTestRunner(
        verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL
    )
    monkeypatch.setenv("LAKEFEED_HOME", str(tmp_path / "home"))
    for example in doctest.DocTestFinder().find(module, name, globs=names):
        runner.run(example, out=problems.append)
    assert problems == [], "\n".join(problems)
