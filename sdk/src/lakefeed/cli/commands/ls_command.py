"""``lakefeed ls``: the datasets of the lake."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import click

import lakefeed
from lakefeed.cli.cell_text import Column
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import list_datasets
from lakefeed.cli.shared_options import lake_command

if TYPE_CHECKING:
    from lakefeed import Dataset

COLUMNS = (
    Column("dataset"),
    Column("version", "version"),
    Column("rows", "count"),
    Column("bytes", "bytes"),
    Column("files", "list"),
    Column("changed", "time"),
    Column("by"),
    Column("tags", "list"),
    Column("label"),
)


@lake_command("ls")
@click.argument("pattern", required=False)
def ls_command(invocation: Invocation, pattern: str | None) -> None:
    """List the datasets, with the newest version of each.

    PATTERN selects names, such as 'photos*'.
    """
    datasets = [each for each in list_datasets() if pattern is None or fnmatchcase(each.name, pattern)]
    if not datasets:
        home = lakefeed.Settings.load().home
        matching = "" if pattern is None else f" matching {pattern!r}"
        invocation.message(f"no datasets{matching} in {home}")
    invocation.write_table(COLUMNS, _rows(datasets, invocation))


def _rows(datasets: list[Dataset], invocation: Invocation) -> Iterator[tuple[Any, ...]]:
    for dataset in datasets:
        try:
            yield _row(dataset.name, dataset.metadata)
        except lakefeed.errors.DatasetNotFoundError:
            continue  # deleted since the list was made
        except lakefeed.errors.DamagedDatasetError as error:
            yield (dataset.name, *([None] * (len(COLUMNS) - 1)))
            invocation.message(f"lakefeed: {error}")


def _row(name: str, metadata: dict[str, Any]) -> tuple[Any, ...]:
    files, tags = sorted(set(metadata["column_types"].values())), list(metadata["tags"])
    if not metadata["snapshots"]:
        return name, None, 0, 0, files, None, None, tags, None
    newest = metadata["snapshots"][0]
    return (
        name,
        newest.version,
        newest.total_records,
        newest.total_bytes,
        files,
        newest.timestamp_ms,
        newest.user,
        tags,
        newest.label,
    )
