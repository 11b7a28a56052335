"""Names of indexes on the command line."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from lakefeed import connect, errors
from lakefeed.cli.references import lake_exists


class IndexName(click.ParamType[str]):
    """The name of an index, completed from the catalog."""

    name = "index"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Returns the names that begin with the text."""
        try:
            names = [each.name for each in connect().list_indexes()] if lake_exists() else []
        except (errors.LakefeedError, OSError):
            names = []  # a message would break the line that is being typed
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


INDEX = IndexName()
