"""Reads that are not inputs of the current run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lakefeed._validate import check_flag
from lakefeed.catalog import current_run
from lakefeed.catalog.current_run import RunState


@contextmanager
def reading(is_run_input: Any = None) -> Iterator[None]:
    """Reads in a block. With False, the versions that it reads do not become inputs of the current run.

    Raises:
        InvalidArgumentError: the value is not True, False or None.
    """
    if is_run_input is None or check_flag(is_run_input, "is_run_input"):
        yield
        return
    nobody = RunState("", lambda: None)
    before = current_run.begin(nobody)
    try:
        yield
    finally:
        current_run.end(nobody, before)
