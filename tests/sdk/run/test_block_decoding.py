"""Text files whose blocks are decoded in several threads."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Generator
from pathlib import Path

import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed._typing import Block
from lakefeed.config import ReadSettings
from lakefeed.errors import ChangedFileError, FormatError
from lakefeed.run.block_decoding import decode_blocks

ROWS = 60_000
BAD_ROW = 50_000
FILLER = "x" * 100
FOUR = ReadSettings(threads=4)


@pytest.fixture(params=["csv", "jsonl"])
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Path]:
    """Returns a function that writes ``ROWS`` rows; the cell of row ``BAD_ROW`` is its argument."""

    def written(cell: str) -> Path:
        path = tmp_path / f"rows.{request.param}"
        cells = [cell if n == BAD_ROW else f"{n}" for n in range(ROWS)]
        if request.param == "csv":
            lines = ["n,text", *(f'{n},"{FILLER}"' for n in cells)]
        else:
            lines = [f'{{"n": {n}, "text": {json.dumps(FILLER)}}}' for n in cells]
        path.write_text("\n".join(lines) + "\n")
        return path

    return written


def test_the_rows_of_a_file_come_in_order(write: Callable[[str], Path]) -> None:
    path = write(str(BAD_ROW))
    numbers = [n for batch in Dataset.from_file(path).batches(1000) for n in batch["n"]]
    assert numbers == list(range(ROWS))
    assert path.stat().st_size > 5 << 20, "several blocks"


def test_the_rows_before_a_bad_line_come_first_and_no_thread_remains(write: Callable[[str], Path]) -> None:
    data = Dataset.from_file(write('"bad"'), schema=pa.schema({"n": pa.int64(), "text": pa.string()}))
    numbers: list[int] = []
    with pytest.raises(FormatError, match=r"line 5000[12].*bad"):
        numbers.extend(n for batch in data.batches() for n in batch["n"])
    assert len(numbers) > BAD_ROW // 2
    assert numbers == list(range(len(numbers)))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lakefeed-ahead")]


def test_a_reader_that_stops_early_leaves_no_thread(write: Callable[[str], Path]) -> None:
    batches = Dataset.from_file(write("1")).batches(1000)
    for _ in range(40):
        next(batches)
    batches.close()  # type: ignore[attr-defined]  # it is a generator
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lakefeed-ahead")]


def test_a_file_that_changes_while_it_is_read_is_an_error(write: Callable[[str], Path]) -> None:
    path = write("1")
    batches = Dataset.from_file(path).batches(1000)
    next(batches)
    with path.open("r+b") as file:
        file.write(b"?")
    os.utime(path, ns=(1, 1))
    with pytest.raises(ChangedFileError):
        list(batches)


def block(number: int) -> Block:
    return lambda: [pa.record_batch({"n": [number]})]


def test_the_second_piece_is_requested_after_the_first_rows_and_each_in_this_thread() -> None:
    requests = []

    def blocks() -> Generator[Block]:
        for number in range(50):
            requests.append(threading.get_ident())
            yield block(number)

    batches = decode_blocks(blocks(), FOUR)
    next(batches)
    assert len(requests) == 1
    assert [batch["n"][0].as_py() for batch in batches] == list(range(1, 50))
    assert set(requests) == {threading.get_ident()}


def test_the_error_of_a_piece_wins_over_one_behind_it() -> None:
    def failing() -> list[pa.RecordBatch]:
        raise FormatError("block 3")

    def blocks() -> Generator[Block]:
        for number in range(3):
            yield block(number)
        yield failing
        yield block(4)
        raise FormatError("behind it")

    rows: list[pa.RecordBatch] = []
    with pytest.raises(FormatError, match="block 3"):
        rows.extend(decode_blocks(blocks(), FOUR))
    assert sum(batch.num_rows for batch in rows) <= 3


@pytest.mark.parametrize("threads", [1, 4])
def test_an_error_of_the_file_comes_after_the_rows_before_it(threads: int) -> None:
    def blocks() -> Generator[Block]:
        for number in range(20):
            yield block(number)
        raise FormatError("the end")

    numbers: list[int] = []
    with pytest.raises(FormatError, match="the end"):
        numbers.extend(batch["n"][0].as_py() for batch in decode_blocks(blocks(), ReadSettings(threads=threads)))
    assert numbers == list(range(20))


def test_a_change_of_the_file_explains_the_error_of_a_piece() -> None:
    def failing() -> list[pa.RecordBatch]:
        raise FormatError("a mixture of two states")

    def blocks() -> Generator[Block]:
        yield block(0)
        yield block(1)
        yield failing
        raise ChangedFileError("it changed")

    with pytest.raises(ChangedFileError):
        list(decode_blocks(blocks(), FOUR))


def test_null_words_mean_the_same_in_every_piece(tmp_path: Path) -> None:
    """A word that is a value of the type too is null wherever it stands, also in quotes."""
    path = tmp_path / "rows.csv"
    lines = [f'"{n % 10}",{FILLER}' for n in range(ROWS)]
    lines[BAD_ROW] = f"none,{FILLER}"
    path.write_text("n,text\n" + "\n".join(lines) + "\n")
    schema = pa.schema({"n": pa.int64(), "text": pa.string()})
    data = Dataset.from_file(path, schema=schema, null_values=["0", "none"])
    numbers = [n for batch in data.batches() for n in batch["n"]]
    assert numbers == [None if n % 10 == 0 or n == BAD_ROW else n % 10 for n in range(ROWS)]
