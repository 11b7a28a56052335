"""AnnData of before pandas 3 writes the strings of pandas only if they are Python's."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest


@pytest.fixture(autouse=True, scope="module")
def strings_of_python() -> Iterator[None]:
    if not find_spec("anndata"):
        pytest.skip("AnnData is not installed")
    import anndata
    import pandas as pd

    allowed = anndata.settings.override(allow_write_nullable_strings=True)
    with pd.option_context("mode.string_storage", "python"), allowed:
        yield
