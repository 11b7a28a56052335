"""Tables on a terminal, by rich."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lakefeed.cli.cell_text import Column, escape

RIGHT = ("count", "bytes")


def render(columns: Sequence[Column], rows: Sequence[Sequence[Any]], header: bool = True) -> str:
    """Returns a table as text, with colours where the terminal has them."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=header, header_style="bold")
    for number, column in enumerate(columns):
        right = column.kind in RIGHT or _is_numeric([row[number] for row in rows])
        table.add_column(
            Text(escape(column.name, backslash=False)), justify="right" if right else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(column.to_terminal(value)) for column, value in zip(columns, row, strict=True)))
    buffer = io.StringIO()
    console = Console(file=buffer, force_terminal=has_colours(), width=terminal_width(), highlight=False)
    console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in buffer.getvalue().splitlines())


def has_colours() -> bool:
    """Returns whether standard output is a terminal with colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def terminal_width() -> int:
    """Returns the number of characters in a line."""
    return Console(file=sys.stdout).width


def _is_numeric(values: Sequence[Any]) -> bool:
    return all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values)
