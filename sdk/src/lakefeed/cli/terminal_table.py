"""Tables on a terminal, by rich."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lakefeed.cli.cell_text import Column, counted, escape

GAP = 2
NARROW = 12
"""Characters that a column needs at least, if it has as many."""
RIGHT = ("count", "bytes")


def render(columns: Sequence[Column], rows: Sequence[Sequence[Any]], header: bool = True) -> str:
    """Returns a table as text, with colours where the terminal has them. Columns that do not fit are counted."""
    console = Console(file=io.StringIO(), force_terminal=has_colours(), width=terminal_width(), highlight=False)
    names = [escape(column.name, backslash=False) for column in columns]
    texts = [[column.to_terminal(value) for column, value in zip(columns, row, strict=True)] for row in rows]
    shown = _fitting(names if header else [], texts, console.width)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_header=header, header_style="bold")
    for position in range(shown):
        right = columns[position].kind in RIGHT or _is_numeric([row[position] for row in rows])
        table.add_column(Text(names[position]), justify="right" if right else "left", overflow="fold")
    for line in texts:
        table.add_row(*map(Text, line[:shown]))
    with console.capture() as capture:
        console.print(table)
    text = "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())
    hidden = len(columns) - shown
    return text + (f"… {counted(hidden, 'more column')}: {', '.join(names[shown : shown + 5])}\n" if hidden else "")


def _fitting(names: Sequence[str], texts: Sequence[Sequence[str]], width: int) -> int:
    """Returns the number of columns that fit, with at least `NARROW` characters or their own width each."""
    used = 0
    lines = [names, *texts] if names else texts
    for position, cells in enumerate(zip(*lines, strict=True)):
        used += min(max(map(cell_len, cells)), NARROW) + GAP
        if used > width + GAP:
            return max(position, 1)
    return len(lines[0])


def has_colours() -> bool:
    """Returns whether standard output is a terminal with colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def terminal_width() -> int:
    """Returns the number of characters in a line."""
    return Console(file=sys.stdout).width


def _is_numeric(values: Sequence[Any]) -> bool:
    return all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values)
