"""The entry of anndata, which is imported at its first use, and AnnData objects as files."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from lakefeed.errors import MissingDependencyError


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


def is_anndata(value: Any) -> bool:
    """Returns whether this is an AnnData object. Does not import anndata."""
    return any(kind.__name__ == "AnnData" and kind.__module__.startswith("anndata") for kind in type(value).__mro__)
