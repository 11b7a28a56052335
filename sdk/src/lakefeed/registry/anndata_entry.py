"""The entry of anndata, which is imported at its first use, and AnnData objects as files."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakefeed._lazy import LazyModule
from lakefeed.errors import MissingDependencyError

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = LazyModule("pandas")


def import_anndata(method: str) -> Any:
    """Returns the module anndata.

    Raises:
        MissingDependencyError: it is not installed. The message names ``method``.
    """
    try:
        return import_module("anndata")
    except ModuleNotFoundError as error:
        if error.name != "anndata":
            raise
        raise MissingDependencyError(f"{method} needs anndata: pip install 'lakefeed[anndata]'") from error


def write_h5ad(value: Any, path: Path) -> None:
    """Writes an AnnData as a file, without changing it. Equal objects make equal files."""
    anndata = import_anndata("save")
    raw = value.raw
    parts = {name: dict(getattr(value, name)) for name in ("obsm", "varm", "obsp", "varp", "layers", "uns")}
    portable = anndata.AnnData(
        X=value.X,
        obs=_with_plain_texts(value.obs),
        var=_with_plain_texts(value.var),
        raw=None if raw is None else {"X": raw.X, "var": _with_plain_texts(raw.var), "varm": dict(raw.varm)},
        **parts,
    )
    portable.write_h5ad(path)


def _with_plain_texts(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns a frame whose texts are Python objects: anndata cannot write those of Arrow, which pandas 3 makes."""
    plain = frame.copy(deep=False)
    plain.index = _plain_index(plain.index)
    for name in plain.columns:
        column = plain[name]
        if isinstance(column.dtype, pd.StringDtype):
            plain[name] = column.astype(object)
        elif isinstance(column.dtype, pd.CategoricalDtype):
            codes, categories = column.cat.codes, _plain_index(column.cat.categories)
            plain[name] = pd.Categorical.from_codes(codes, categories, ordered=column.cat.ordered)
    return plain


def _plain_index(index: pd.Index[Any]) -> pd.Index[Any]:
    return index.astype(object) if isinstance(index.dtype, pd.StringDtype) else index
