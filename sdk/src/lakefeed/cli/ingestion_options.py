"""The ingestions that the command line names."""

from __future__ import annotations

from collections.abc import Sequence

from lakefeed import errors
from lakefeed.cli.declared_work import choose, load_work
from lakefeed.ingest import Source


def load_ingestions(files: Sequence[str], names: Sequence[str]) -> list[Source]:
    """Returns the ingestions of these names; all that the files declare for no names.

    Raises:
        InvalidArgumentError: the files declare no ingestion, or cannot be loaded.
    """
    declared = load_work(files).ingestions
    if not declared:
        raise errors.InvalidArgumentError(
            f"{', '.join(files)}: no ingestion is declared; make a FolderSource or another source of lakefeed.ingest"
        )
    return choose(declared, names, "ingestion")
