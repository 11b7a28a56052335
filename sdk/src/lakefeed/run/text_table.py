"""Tables as text for a shell, and as HTML for a notebook."""

from __future__ import annotations

import html
from collections.abc import Collection, Sequence

CELL_CHARACTERS = 60


def text_table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[str]) -> str:
    """Returns a table of aligned columns. Those with headings in ``left`` are aligned to the left."""
    lines = [headings, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if heading in left else cell.rjust(width)
            for cell, width, heading in zip(cells, widths, headings, strict=True)
        )
        return "  ".join(padded).rstrip()

    return "\n".join(map(line, lines))


def html_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns the table as HTML, with all text escaped."""
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>" for cells in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def short_line(text: str | None) -> str:
    """Returns a text in one line of bounded length, without characters that move the cursor."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text or "").split())
    return line if len(line) <= CELL_CHARACTERS else f"{line[: CELL_CHARACTERS - 1]}…"
