"""Blocks of whole lines, and that no thread of Arrow comes back to Python when a process ends."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lakefeed
from lakefeed import Dataset
from lakefeed.errors import FormatError
from lakefeed.formats.csv_records import count_lines, header_end, record_ends
from lakefeed.formats.text_blocks import LINE_BYTES, blocks

ENDS = """
import sys
from lakefeed import Dataset
rows = iter(Dataset.from_file(sys.argv[1]))
for _ in range(int(sys.argv[2])):
    next(rows, None)
"""


CONTENTS = [
    b"", b"a", b"a\n", b"a\n\nb", b'x,"1\n2\n"\ny\n', b'"\n\n\n",1\n"\n",2\n3,4', b'5" disk\nb\nc\n',
    b'a,"\r\n"\r\r\nb\r',
]  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("content", CONTENTS)
def test_blocks_together_are_the_file_and_end_with_records(content: bytes, size: int) -> None:
    found = list(blocks(io.BytesIO(content), size, quoted=True))
    assert b"".join(block for _, block in found) == content
    whole = record_ends(content).tolist()
    offset, line = 0, 1
    for number, block in found[:-1]:
        assert number == line
        offset, line = offset + len(block), line + count_lines(block)
        assert offset in whole


def test_a_long_line_is_an_error_and_a_lone_quote_does_not_make_one() -> None:
    far = LINE_BYTES + (2 << 20)
    lone = b'1,5" disk\n' + b"2,b\n" * (far // 4)
    assert len(list(blocks(io.BytesIO(lone), quoted=True))) > 10
    with pytest.raises(FormatError, match="x, line 2: the quote that opens a cell is not closed within 16 MiB"):
        list(blocks(io.BytesIO(b'\n1,"' + b"x\n" * far), name="x", quoted=True))
    for quoted in (True, False):
        with pytest.raises(FormatError, match="line 1: a line is longer than 16 MiB"):
            list(blocks(io.BytesIO(b"x" * 2 * far), quoted=quoted))


def test_the_header_is_the_first_line_with_text() -> None:
    assert header_end(b"\r\n\nx,y\n1,2\n") == 7
    assert header_end(b'"a\nb",c\r1,2\n') == 8
    assert header_end(b"x") == 1
    assert header_end(b"x" * 100_000 + b"\r\ny") == 100_002


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_rows_over_many_blocks(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    made = ("x,s\n", '{},"a\n{}"\n') if name.endswith("csv") else ("", '{{"x": {}, "s": "a\\n{}"}}\n')
    path.write_text(made[0] + "".join(made[1].format(n, n) for n in range(200_000)))
    found = Dataset.from_file(str(path)).to_arrow()
    assert found["x"].to_pylist() == list(range(200_000))
    assert found["s"][123_456].as_py() == "a\n123456"


@pytest.mark.live
@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_a_process_may_end_in_the_middle_of_a_text_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    line = "{},{}\n" if name.endswith("csv") else '{{"x": {}, "y": {}}}\n'
    path.write_text(("x,y\n" if name.endswith("csv") else "") + "".join(line.format(n, n) for n in range(100_000)))
    environment = {**os.environ, "PYTHONPATH": str(Path(lakefeed.__file__).parents[1])}
    command = [sys.executable, "-W", "error", "-c", ENDS, str(path)]
    ended = [subprocess.Popen([*command, str(rows)], env=environment, stderr=subprocess.PIPE) for rows in (0, 1, 20)]
    for process in ended:
        _, complaint = process.communicate(timeout=120)
        assert (process.returncode, complaint) == (0, b"")
