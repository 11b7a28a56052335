"""Datasets as people see them: one line in a shell, a preview table in a notebook."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pyarrow as pa

from lakefeed._sparse import type_text
from lakefeed.catalog.versions import Pin
from lakefeed.errors import DamagedDatasetError, LakefeedError
from lakefeed.media import Handle, column_type
from lakefeed.plan import Node
from lakefeed.run.row_count import known_rows

PREVIEW_ROWS = 5
PREVIEW_COLUMNS = 20
CELL_CHARS = 80
STYLE = "text-align:left;vertical-align:top;padding:2px 8px"


def line(kind: str, name: str | None, pin: Pin | None, known: Callable[[], tuple[Node, int | str | None]]) -> str:
    """A dataset's class, name, version, rows and columns, as far as they can be had; never an error.

    ``known``: its plan, and its version if it has one.
    """
    called = f"{kind}({'' if name is None else repr(name)}"
    try:
        plan, version = known()
        rows = known_rows(plan)
    except LakefeedError as error:
        damage = ": damaged" if isinstance(error, DamagedDatasetError) else ""
        return called + ("" if pin is None else f", version={pin}") + ")" + damage
    which = "" if name is None else f", version={version}"
    return f"{called}{which}): {'?' if rows is None else rows} rows, {columns_text(plan.schema)}"


def columns_text(schema: pa.Schema, most: int = 6) -> str:
    """The columns and their types in a line, the tail left out where there are many."""
    shown = [f"{field.name}: {_kind(field)}" for field in list(schema)[:most]]
    return ", ".join(shown) + (f", … {len(schema) - most} more" if len(schema) > most else "")


def preview(title: str, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> str:
    """An HTML table of rows; images show as thumbnails."""
    fields = list(schema)[:PREVIEW_COLUMNS]
    head = "".join(_heading(field.name, _kind(field)) for field in fields)
    body = "".join(f"<tr>{''.join(_cell(row[field.name]) for field in fields)}</tr>" for row in rows)
    more = f"<p>… {len(schema) - len(fields)} more columns</p>" if len(schema) > len(fields) else ""
    return (
        f"<div><p><b>{html.escape(title)}</b></p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"{more}</div>"
    )


def _kind(field: pa.Field[Any]) -> str:
    """The type of a column: of files, what they are."""
    return column_type(field) or _short(type_text(field), 40)


def _heading(name: str, kind: str) -> str:
    return f'<th style="{STYLE}">{html.escape(name)}<br><small>{html.escape(kind)}</small></th>'


def _cell(value: Any) -> str:
    if isinstance(value, Handle):
        return f'<td style="{STYLE}">{value._repr_html_()}</td>'
    return f'<td style="{STYLE}">{html.escape(_short(str(value), CELL_CHARS))}</td>'


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
