"""Completion of the names of routines and ingestions, which the files of ``--file`` declare."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from types import FrameType
from typing import NoReturn

import click
from click.shell_completion import CompletionItem

from lakefeed.cli.declared_work import DeclaredWork, load_work

PATIENCE_SECONDS = 5
"""A shell waits so long for the code of files."""


class DeclaredName(click.ParamType[str]):
    """The name of a declaration.

    Args:
        names: returns the names among declarations.
    """

    name = "name"

    def __init__(self, names: Callable[[DeclaredWork], Sequence[str]]) -> None:
        self._names = names

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Returns the names that begin with the text. A file that cannot be loaded declares none."""
        given = ctx.params.get(param.name or "") or ()
        chosen = {given} if isinstance(given, str) else set(given)
        names: Sequence[str] = ()
        with _without_output():
            try:
                names = self._names(load_work(ctx.params.get("files") or ()))
            except BaseException:  # noqa: BLE001 - anything that the code of a file raises would break the typed line
                names = ()
        return [CompletionItem(name) for name in names if name.startswith(incomplete) and name not in chosen]


@contextmanager
def _without_output() -> Iterator[None]:
    """Discards what code writes to the terminal, and interrupts it when the patience ends."""
    sys.stdout.flush()
    sys.stderr.flush()
    copies = [(descriptor, os.dup(descriptor)) for descriptor in (1, 2)]
    nothing = os.open(os.devnull, os.O_RDWR)
    before = signal.signal(signal.SIGALRM, _end)
    signal.alarm(PATIENCE_SECONDS)
    try:
        for descriptor, _ in copies:
            os.dup2(nothing, descriptor)
        with open(nothing, "w", closefd=False) as stream, redirect_stdout(stream), redirect_stderr(stream):
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        for descriptor, copy in copies:
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(nothing)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise TimeoutError("the code of a file takes long")


ROUTINE = DeclaredName(lambda work: [each.name for each in work.routines])
INGESTION = DeclaredName(lambda work: [each.name for each in work.ingestions])
