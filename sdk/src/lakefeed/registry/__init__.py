"""The registry: datasets, files, runs and labels as records, with the names of LaminDB.

``import lakefeed.registry as ln`` runs code that was written for ``import lamindb as ln``.
"""

from typing import TYPE_CHECKING

from lakefeed._lazy import lazy_attributes

if TYPE_CHECKING:
    from lakefeed.registry import bionty, dev
    from lakefeed.registry.visibility import Visibility

__all__ = ["Visibility", "bionty", "dev"]

if not TYPE_CHECKING:  # else a type checker would take any name
    __getattr__ = lazy_attributes(__name__, {"visibility": ("Visibility",)})
