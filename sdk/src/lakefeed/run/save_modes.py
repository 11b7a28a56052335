"""``save`` where the dataset may be there already: it is made, or gets another version, whoever is faster."""

from __future__ import annotations

from collections.abc import Callable

from lakefeed._typing import ColumnTypes, IfExists
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.versions import DatasetVersion
from lakefeed.errors import DatasetExistsError, DatasetNotFoundError
from lakefeed.plan import Node
from lakefeed.run.row_edits import overwrite
from lakefeed.run.save import Writing, append_to, save

ROUNDS = 5
"""The number of times that other processes may create or delete the dataset between the check and the write."""


def save_or_add(
    lake: Lake, plan: Node, name: str, description: str | None, column_types: ColumnTypes | str | None, writing: Writing
) -> DatasetVersion:
    """The plan's rows as a new dataset, or as ``writing.if_exists`` says where there is one."""
    add = overwrite if writing.if_exists == "new_version" else append_to
    return make_or_add(
        lake,
        name,
        writing.if_exists,
        lambda: save(lake, plan, name, description, column_types, writing),
        lambda: add(lake, plan, name, writing),
    )


def make_or_add(
    lake: Lake, name: str, if_exists: IfExists, create: Callable[[], DatasetVersion], add: Callable[[], DatasetVersion]
) -> DatasetVersion:
    """The version that ``create`` makes of a dataset that is missing, or ``add`` of one that is there.

    Raises:
        DatasetExistsError: it is there, and that is to be an error.
    """
    if if_exists == "error":
        return create()
    for _ in range(ROUNDS):
        try:
            return add() if lake.exists(name) else create()
        except DatasetExistsError:
            continue  # another process was faster
        except DatasetNotFoundError:
            if lake.exists(name):
                raise
    return create()
