"""Reads that are inputs of the current run, and those that are not."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lakefeed._validate import check_flag
from lakefeed.catalog import current_run
from lakefeed.catalog.current_run import RunState
from lakefeed.catalog.lake import Lake
from lakefeed.errors import CatalogUnavailableError
from lakefeed.records.inserts import insert_new, now_ms
from lakefeed.records.record_registry import Registry
from lakefeed.records.record_tables import INPUT
from lakefeed.records.version_rows import run_uid

logger = logging.getLogger(__name__)


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


def add_file_input(lake: Lake, uid: str, is_run_input: Any) -> None:
    """Makes a file an input of the current run, once. A database that is away is logged, and fails no read.

    Args:
        lake: the lake.
        uid: the uid of the file.
        is_run_input: False does nothing.

    Raises:
        InvalidArgumentError: ``is_run_input`` is not True, False or None.
    """
    state = current_run.current_state()
    if not (is_run_input is None or check_flag(is_run_input, "is_run_input")) or state is None or not state.id:
        return
    row = {"run": run_uid(state.id), "record": uid, "at": now_ms()}
    try:
        with Registry.open(lake).write() as connection:
            insert_new(connection, INPUT, [row])
    except CatalogUnavailableError as error:
        logger.warning("file %s is not recorded as an input of the run %s: %s", uid, state.id, error)
