"""File columns with text from other machines, which must not name files of this machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lakefeed import _paths
from lakefeed.errors import RefusedTargetError
from lakefeed.media.cell_sources import ContentSource
from lakefeed.storage.urls import expand_home


@dataclass(frozen=True)
class ForeignColumns:
    """The ``columns`` that come from other machines, and the local ``folders`` in which they may name files."""

    columns: frozenset[str] = frozenset()
    folders: tuple[str, ...] = ()

    def check(self, sources: Iterable[ContentSource]) -> None:
        """Raises RefusedTargetError for a local path in one of the columns that is outside the folders.

        Links and ``..`` are resolved first.
        """
        for source in sources:
            if source.path is None or source.column not in self.columns:
                continue
            path = _paths.resolve(source.path)
            if not any(path.is_relative_to(_paths.resolve(expand_home(folder))) for folder in self.folders):
                raise RefusedTargetError(
                    f"{source.location}: {source.name} is a path of this machine, but the column comes from a file of "
                    "another machine, which must not choose the files that are read here. Nothing was committed. "
                    "Convert the names to URLs (with_column), save the column as text (column_types=None), or allow "
                    "the folder in the setting files.local_folders"
                )


NO_FOREIGN_COLUMNS = ForeignColumns()
"""All columns come from this machine or from the lake."""
