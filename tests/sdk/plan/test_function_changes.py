"""What a function uses counts in fingerprints: a change of any of it makes another one."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import threading
from collections import Counter, namedtuple
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.plan import exact_fingerprint, fingerprint

torch = pytest.importorskip("torch")

X = pa.schema({"x": pa.int64()})
BASE = Dataset.from_dict({"x": [1, 2]}, schema=X)

SOURCE = """
import functools, re
from dataclasses import dataclass
import {name}_helpers as helpers
CONSTANT = 2
TABLE = {{"a": 2}}
def helper(value): return value * CONSTANT
def by_constant(row): return {{"x": row["x"] * CONSTANT}}
def by_table(row): return {{"x": row["x"] * TABLE["a"]}}
def by_helper(row): return {{"x": helper(row["x"])}}
def by_nested(row): return {{"x": [helper(value) for value in [row["x"]]][0]}}
def by_module(row): return {{"x": helpers.scale(row["x"])}}
def by_import(row):
    import {name}_helpers
    return {{"x": {name}_helpers.scale(row["x"])}}
def by_default(row, factor=2): return {{"x": row["x"] * factor}}
@functools.lru_cache
def cached(value): return value * CONSTANT
def by_cached(row): return {{"x": cached(row["x"])}}
def decorated(function):
    @functools.wraps(function)
    def wrapper(row): return function(row)
    return wrapper
@decorated
def by_decorated(row): return {{"x": row["x"] * CONSTANT}}
class Tokenize:
    width = 2
    __slots__ = ("size",)
    def __init__(self, size): self.size = size
    def __call__(self, row): return {{"x": row["x"] * self.size * self.width}}
    def method(self, row): return self(row)
    @staticmethod
    def static(row): return {{"x": row["x"] * CONSTANT}}
    @classmethod
    def of_class(cls, row): return {{"x": row["x"] * cls.width}}
class Derived(Tokenize): pass
@dataclass
class Scale:
    factor: int
    def __call__(self, row): return {{"x": row["x"] * self.factor * CONSTANT}}
"""
HELPERS = "FACTOR = 2\ndef scale(value): return value * FACTOR\n"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    name = f"functions_{abs(hash(str(tmp_path)))}"
    modules = []
    for part, source in ((f"{name}_helpers", HELPERS), (name, SOURCE.format(name=name))):
        made = ModuleType(part)
        monkeypatch.setitem(sys.modules, part, made)
        made.__file__ = str(tmp_path / f"{part}.py")
        exec(compile(source, made.__file__, "exec"), vars(made))
        modules.append(made)
    return modules[1]


def marks_of(function: Any) -> tuple[str, str | None]:
    plan = BASE.map(function, schema=X)._plan
    return fingerprint(plan), exact_fingerprint(plan)


FUNCTIONS = {
    "constant": (lambda m: m.by_constant, ["CONSTANT"]),
    "table": (lambda m: m.by_table, ["TABLE"]),
    "helper": (lambda m: m.by_helper, ["CONSTANT", "helper"]),
    "nested code": (lambda m: m.by_nested, ["CONSTANT", "helper"]),
    "module": (lambda m: m.by_module, ["helpers.FACTOR", "helpers.scale"]),
    "import within": (lambda m: m.by_import, ["helpers.FACTOR"]),
    "lru_cache": (lambda m: m.by_cached, ["CONSTANT"]),
    "decorated": (lambda m: m.by_decorated, ["CONSTANT"]),
    "default": (lambda m: m.by_default, ["by_default.__defaults__"]),
    "object": (lambda m: m.Tokenize(2), ["Tokenize.width", "Tokenize.__call__"]),
    "method": (lambda m: m.Tokenize(2).method, ["Tokenize.width", "Tokenize.__call__"]),
    "static method": (lambda m: m.Tokenize.static, ["CONSTANT"]),
    "class method": (lambda m: m.Tokenize.of_class, ["Tokenize.width"]),
    "base class": (lambda m: m.Derived(2), ["Tokenize.width"]),
    "dataclass": (lambda m: m.Scale(2), ["CONSTANT", "Scale.__call__"]),
    "partial": (lambda m: functools.partial(m.by_default, factor=3), ["by_default"]),
    "lambda": (lambda m: lambda row: m.by_constant(row), ["CONSTANT"]),
    "captured object": (lambda m: (lambda scale: lambda row: scale(row))(m.Scale(2)), ["CONSTANT"]),
}


def other(value: Any) -> Any:
    if isinstance(value, int):
        return value + 1
    if isinstance(value, tuple):
        return (3,)
    if isinstance(value, dict):
        return {"a": 3}
    return lambda *_: {"x": 7}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_a_change_of_anything_that_a_function_uses_is_noticed(
    module: ModuleType, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, paths = FUNCTIONS[kind]
    before = marks_of(make(module))
    assert None not in before
    assert marks_of(make(module)) == before
    for path in paths:
        *owners, name = path.split(".")
        owner: Any = module
        for part in owners:
            owner = getattr(owner, part)
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, other(getattr(owner, name)))
            after = marks_of(make(module))
        assert after[0] != before[0], path
        assert after[1] not in (None, before[1]), path
    assert marks_of(make(module)) == before


@pytest.mark.parametrize("first", ["Tokenize", "Scale"])
def test_the_settings_of_an_object_count(module: ModuleType, first: str) -> None:
    assert len({marks_of(getattr(module, first)(size)) for size in (2, 5, 2)}) == 2


Pair = namedtuple("Pair", "left right")


@dataclass
class Holder:
    value: Any


VALUES = [
    lambda n: torch.tensor([1, n]),
    lambda n: torch.tensor([1.0, n]).to(torch.bfloat16),
    lambda n: torch.tensor([[1.0], [n]])[:, 0],
    lambda n: torch.nn.Parameter(torch.tensor([float(n)])),
    lambda n: pd.Series([1, n]),
    lambda n: pd.Series(["a", str(n)], dtype=object),
    lambda n: pd.DataFrame({"a": [n]}),
    lambda n: pa.array([1, n]),
    lambda n: pa.array(["a", str(n)]),
    lambda n: pa.table({"a": [n]}),
    lambda n: pa.chunked_array([[1], [n]]),
    lambda n: pa.scalar(n),
    lambda n: re.compile(str(n)),
    lambda n: re.compile("a", re.IGNORECASE if n == 2 else 0),
    lambda n: np.array([n, "a"], object),
    lambda n: np.random.default_rng(n),
    lambda n: Counter({n: 1}),
    lambda n: Pair(1, n),
    lambda n: Holder(n),
    lambda n: Holder(torch.tensor(n)),
    lambda n: bytearray([n]),
    lambda n: {n, "a"},
    lambda n: [Holder({n})],
    lambda n: functools.partial(max, n),
]


@pytest.mark.parametrize("make", VALUES)
def test_captured_values_count_by_their_content(make: Any) -> None:
    def using(value: Any) -> Any:
        return lambda row: {"x": len(str(value))}

    one, again, another = (marks_of(using(make(n))) for n in (2, 2, 3))
    assert one == again
    assert one[0] != another[0]
    assert one[1] not in (None, another[1])


def test_a_state_that_cannot_be_written_is_refused_for_rows_that_are_kept() -> None:
    class Guarded:
        def __init__(self, factor: int) -> None:
            self.factor = factor
            self.lock = threading.Lock()

        def __call__(self, row: dict[str, int]) -> dict[str, int]:
            return {"x": row["x"] * self.factor}

    two, again, five = (marks_of(Guarded(factor)) for factor in (2, 2, 5))
    assert two == again
    assert two[0] != five[0]
    assert two[1] is five[1] is None


def test_plans_without_functions_have_the_fingerprints_of_older_versions() -> None:
    plan = BASE.filter("x > 1").shuffle(3, global_=False).head(1)._plan
    assert fingerprint(plan) == exact_fingerprint(plan) == "f632004b84abb800"


SCRIPT = """
import sys; sys.path.insert(0, {folder!r})
import pyarrow as pa, user_code
from lakefeed import Dataset
from lakefeed.plan import exact_fingerprint, fingerprint
d = Dataset.from_dict({{"x": [1]}})
X = pa.schema({{"x": pa.int64()}})
for f in (user_code.by_constant, user_code.by_cached, user_code.Tokenize(2), user_code.Scale(3), user_code.by_words):
    plan = d.map(f, schema=X)._plan
    print(fingerprint(plan), exact_fingerprint(plan))
"""


@pytest.mark.live
def test_other_processes_agree(tmp_path: Path) -> None:
    """Whether the code was compiled now or read from its cache, and however strings are hashed."""
    words = (
        'WORDS = {"a", "b", ("c", 1)}\ndef by_words(row): return {"x": row["x"] in (1, 2) and "q" in {"q"} | WORDS}\n'
    )
    (tmp_path / "user_code_helpers.py").write_text(HELPERS)
    (tmp_path / "user_code.py").write_text(SOURCE.format(name="user_code") + words)
    script = SCRIPT.format(folder=str(tmp_path))
    texts = {
        subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(texts) == 1
    assert "None" not in texts.pop()
