"""Real .h5ad files, written by AnnData."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import scipy.sparse

LETTERS = "abcdefgh"


def matrix(rows: int, columns: int, dtype: str = "f4", density: float = 0.3, seed: int = 0) -> np.ndarray[Any, Any]:
    """Whole numbers, most of them 0."""
    random = np.random.default_rng(seed)
    return ((random.random((rows, columns)) < density) * random.integers(1, 100, (rows, columns))).astype(dtype)


def annotated(
    values: Any,
    obs: dict[str, Any] | None = None,
    names: list[str] | None = None,
    layers: dict[str, Any] | None = None,
    index: list[str] | None = None,
) -> anndata.AnnData:
    rows, columns = values.shape
    cells = pd.Index(index or [f"cell{number}" for number in range(rows)])
    variables = pd.Index(names or [f"gene{number}" for number in range(columns)])
    frame = pd.DataFrame(obs or {}, index=cells)
    return anndata.AnnData(values, obs=frame, var=pd.DataFrame(index=variables), layers=layers)


def write(path: Path, values: Any, obs: dict[str, Any] | None = None, **options: Any) -> anndata.AnnData:
    """Writes a file and returns what it holds. ``names``, ``layers``, ``index`` are those of `annotated`."""
    data = annotated(values, obs, *(options.pop(each, None) for each in ("names", "layers", "index")))
    data.write_h5ad(path, **options)
    return data


def csr(values: Any) -> scipy.sparse.csr_matrix:
    return scipy.sparse.csr_matrix(values)


def dense(values: Any) -> Any:
    return values.toarray() if scipy.sparse.issparse(values) else values
