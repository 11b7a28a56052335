"""File columns whose text comes from other machines, which may not name files of this one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lakefeed.errors import RefusedTargetError
from lakefeed.media.cell_sources import ContentSource


@dataclass(frozen=True)
class ForeignColumns:
    """The ``columns`` that come from other machines, and the folders in which they may name files nevertheless."""

    columns: frozenset[str] = frozenset()
    folders: tuple[str, ...] = ()

    def check(self, sources: Iterable[ContentSource]) -> None:
        """Raises RefusedTargetError for a path of this machine in one of the columns, outside of the folders.

        Links are followed first, and ``..`` is resolved.
        """
        for source in sources:
            if source.path is None or source.column not in self.columns:
                continue
            path = Path(source.path).resolve()
            if not any(path.is_relative_to(Path(folder).expanduser().resolve()) for folder in self.folders):
                raise RefusedTargetError(
                    f"{source.place}: {source.name} is a path of this machine, but the column comes from a file of "
                    "another one, which may not choose what is read here. Nothing was committed. Make URLs of the "
                    "names (with_column), save the column as text (column_types=None), or allow the folder: the "
                    "setting files.local_folders"
                )


NO_FOREIGN_COLUMNS = ForeignColumns()
"""Every column comes from this machine, or from the lake."""
