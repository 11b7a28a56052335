"""The rows of a file whose blocks are decoded ahead, in threads."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from functools import partial
from typing import NoReturn

import pyarrow as pa

from lakefeed._typing import Block
from lakefeed._units import MIB
from lakefeed.config import ReadSettings
from lakefeed.errors import FileError, FormatError, LakefeedError
from lakefeed.run.prefetch import read_ahead

BLOCK_BYTES = 8 * MIB
"""About the memory of a block: its text and its rows."""
AHEAD_BYTES = 64 * MIB
"""The memory of the blocks that are decoded ahead."""


def decode_blocks(blocks: Generator[Block], settings: ReadSettings) -> Generator[pa.RecordBatch]:
    """Yields the rows of the blocks, in order. ``blocks`` runs in the thread of the caller.

    Raises:
        FormatError: a block cannot be decoded. The rows before it were yielded.
        FileError: the file cannot be read, or changed while it was read.
    """
    failures: list[LakefeedError] = []
    with closing(blocks), closing(_decoded(_with_error_last(blocks, failures), settings)) as results:
        while True:
            try:
                batches = next(results, None)
            except FormatError as error:
                for failure in failures:
                    if isinstance(failure, FileError):  # the file changed, which explains both errors
                        raise failure from error
                blocks.throw(error)
                raise
            if batches is None:
                return
            yield from batches


def _decoded(blocks: Iterator[Block], settings: ReadSettings) -> Generator[list[pa.RecordBatch]]:
    """Yields the rows of each block. The first one is decoded before the second one is requested."""
    for block in blocks:
        yield list(block())
        break
    bounded = settings.model_copy(update={"prefetch_bytes": min(settings.prefetch_bytes, AHEAD_BYTES)})
    with closing(read_ahead(blocks, _decode, bounded, lambda _: BLOCK_BYTES)) as results:
        yield from results


def _decode(block: Block) -> list[pa.RecordBatch]:
    return list(block())


def _with_error_last(blocks: Iterator[Block], failures: list[LakefeedError]) -> Iterator[Block]:
    """Yields the blocks; in place of an error, a block that raises it. So the rows before it are yielded first."""
    try:
        yield from blocks
    except LakefeedError as error:
        failures.append(error)
        yield partial(_fail, error)


def _fail(error: LakefeedError) -> NoReturn:
    raise error
