"""`Invocation`: the options that all commands share, and the output of one run of a command."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import click

from lakefeed.cli import cell_text, exit_codes
from lakefeed.cli.cell_text import Column, to_json

FIRST_ROWS = 1_000
"""Rows that determine the widths of a table on a terminal."""


class ClosedPipeError(Exception):
    """The reader of standard output has closed it, such as ``head``."""


@dataclass
class Invocation:
    """One run of a command. Results are written to standard output, everything else to standard error.

    Attributes:
        arguments: the arguments of the command line.
        json: write one JSON document.
        quiet: write no messages and show no progress.
        debug: show tracebacks.
        header: write the names of columns in the first line of a pipe.
        facts: what the command did, by name, for JSON.
        messages: the messages, for JSON.
    """

    arguments: Sequence[str] = ()
    json: bool = False
    quiet: bool = False
    debug: bool = False
    header: bool = True
    facts: dict[str, Any] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    _has_document: bool = False

    @property
    def on_terminal(self) -> bool:
        """True where results are written for a person to read."""
        return not self.json and is_terminal()

    def write_table(self, columns: Sequence[str | Column], rows: Iterable[Sequence[Any]]) -> None:
        """Writes rows: a table on a terminal, tab-separated text in a pipe, a list of objects in JSON.

        Args:
            columns: the columns, or their names.
            rows: the values of each row. They are streamed, except on a terminal.
        """
        heads = [Column(each) if isinstance(each, str) else each for each in columns]
        if self.json:
            self._write_json_list(
                {head.name: head.to_json(value) for head, value in _pairs(heads, row)} for row in rows
            )
        elif self.on_terminal:
            self._write_terminal_table(heads, rows)
        else:
            if self.header:
                write("\t".join(cell_text.escape(head.name) for head in heads) + "\n")
            for row in rows:
                write("\t".join(head.to_pipe(value) for head, value in _pairs(heads, row)) + "\n")

    def write_record(self, record: Mapping[str | Column, Any]) -> None:
        """Writes one record: lines of names and values, or an object in JSON.

        Args:
            record: the values by column, or by name of a column.
        """
        heads = {Column(key) if isinstance(key, str) else key: value for key, value in record.items()}
        if self.json:
            self.write_json({head.name: head.to_json(value) for head, value in heads.items()})
        elif self.on_terminal:
            self._write_terminal_table(
                [Column("name"), Column("value")],
                [(head.name, head.to_terminal(value)) for head, value in heads.items()],
                header=False,
            )
        else:
            for head, value in heads.items():
                write(f"{cell_text.escape(head.name)}\t{head.to_pipe(value)}\n")

    def write_json(self, document: object) -> None:
        """Writes the JSON document."""
        self._has_document = True
        write(json.dumps(document, ensure_ascii=False, allow_nan=False, indent=2) + "\n")

    def write_line(self, line: str) -> None:
        """Writes a line of the result."""
        write(cell_text.escape(line) + "\n")

    def message(self, text: str, **facts: Any) -> None:
        """Writes a message to standard error, unless the run is quiet.

        Args:
            text: the message.
            facts: the same for programs. They are in the JSON document of a command that writes no other.
        """
        self.messages.append(text)
        self.facts.update(facts)
        if not self.quiet:
            click.echo(cell_text.escape_lines(text), err=True)

    def finish(self) -> None:
        """Writes the JSON document of a command that has written none: its facts and messages."""
        if self.json and not self._has_document:
            self.write_json({**to_json(self.facts), "messages": self.messages})

    def confirm(self, facts: str, question: str, yes: bool) -> None:
        """Asks before a change, and ends the run unless the answer is yes.

        Args:
            facts: a sentence that says what the change affects.
            question: the question.
            yes: the option ``--yes``: nobody is asked.
        """
        if yes:
            return
        if not can_ask():
            click.echo(f"lakefeed: refused: nobody to ask. {facts}", err=True)
            click.echo(f"next: lakefeed {shlex.join([*self.arguments, '--yes'])}", err=True)
            raise click.exceptions.Exit(exit_codes.REFUSED)
        click.echo(facts, err=True)
        if not click.confirm(question, err=True):
            click.echo("lakefeed: nothing was changed", err=True)
            raise click.exceptions.Exit(exit_codes.REFUSED)

    def _write_json_list(self, items: Iterable[dict[str, Any]]) -> None:
        """Writes a list item by item, so that long results are streamed."""
        self._has_document = True
        before = "["
        for item in items:
            write(before + "\n  " + json.dumps(item, ensure_ascii=False, allow_nan=False))
            before = ","
        write("[]\n" if before == "[" else "\n]\n")

    def _write_terminal_table(
        self, columns: Sequence[Column], rows: Iterable[Sequence[Any]], header: bool = True
    ) -> None:
        from lakefeed.cli import terminal_table

        remaining = iter(rows)
        while True:
            first: list[Sequence[Any]] = []
            try:
                first.extend(islice(remaining, FIRST_ROWS))
            finally:  # rows before an error are shown too
                if first:
                    write(terminal_table.render(columns, first, header))
            if not first:
                return
            header = False


def _pairs(columns: Sequence[Column], row: Sequence[Any]) -> Iterable[tuple[Column, Any]]:
    return zip(columns, row, strict=True)


def is_terminal() -> bool:
    """Returns whether standard output is a terminal."""
    return sys.stdout.isatty()


def can_ask() -> bool:
    """Returns whether a person can answer on standard input."""
    return sys.stdin is not None and sys.stdin.isatty()


def write(text: str) -> None:
    """Writes to standard output.

    Raises:
        ClosedPipeError: the reader has closed it.
    """
    try:
        sys.stdout.write(text)
    except BrokenPipeError:
        raise ClosedPipeError from None


def flush() -> None:
    """Writes what is buffered.

    Raises:
        ClosedPipeError: the reader has closed standard output.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise ClosedPipeError from None
