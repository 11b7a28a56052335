"""Pages run with the optional libraries that they tell the reader to install, and without all others."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from typing import Any

MODULES = {
    "anndata": ("anndata", "h5py", "isal", "pandas", "scipy"),
    "dask": ("cloudpickle", "dask", "distributed"),
    "huggingface": ("datasets", "pandas"),
    "mcap": ("mcap",),
    "media": ("PIL", "av"),
    "pandas": ("pandas",),
    "polars": ("polars",),
    "s3": ("s3fs",),
    "search": ("faiss", "tantivy"),
    "torch": ("torch",),
}
"""The modules that come with an extra."""
INSTALLED = re.compile(r"pip install '\./sdk\[([\w,]+)\]'")


def named_extras(page: str) -> list[str]:
    """Returns the extras in the ``pip install './sdk[…]'`` of a page."""
    return sorted({extra for extras in INSTALLED.findall(page) for extra in extras.split(",")})


def allow(extras: Iterable[str]) -> None:
    """Makes imports of the modules of all other extras fail, as if they were not installed.

    Blocks of the Dagster project, which is installed with all of them, import ``dataset_assets`` first.
    """
    allowed = {module for extra in extras for module in MODULES.get(extra, ())}
    hidden = {module for modules in MODULES.values() for module in modules} - allowed
    for name in [name for name in sys.modules if name.partition(".")[0] in hidden]:
        del sys.modules[name]
    sys.meta_path[:] = [_Without(frozenset(hidden), finder) for finder in sys.meta_path]


class _Without:
    """A finder that does not find some modules."""

    def __init__(self, modules: frozenset[str], finder: Any) -> None:
        self.modules = modules
        self.finder = finder

    def find_spec(self, fullname: str, *where: Any) -> ModuleSpec | None:
        if fullname.partition(".")[0] in self.modules and "dataset_assets" not in sys.modules:
            return None
        spec: ModuleSpec | None = self.finder.find_spec(fullname, *where)
        return spec

    def __getattr__(self, name: str) -> Any:
        return getattr(self.finder, name)
