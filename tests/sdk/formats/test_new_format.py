"""Adding a format is one class and one line: lines of text, which then read from anywhere."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.formats import FORMATS, Streamed
from lakefeed.formats.file_format import read_lines
from lakefeed.storage.archives.streams import Stream
from tests.sdk.web import serving


class Text(Streamed):
    """``.txt`` files: a row a line."""

    name: ClassVar[str] = "text"
    suffixes: ClassVar[tuple[str, ...]] = (".txt",)

    def head(self, stream: Stream) -> pa.Schema:
        return pa.schema({"line": pa.string()})

    def rows(
        self, stream: Stream, schema: pa.Schema, columns: Sequence[str] | None, exact: bool
    ) -> Iterator[pa.RecordBatch]:
        for line in read_lines(stream.file):
            yield pa.record_batch({"line": [line.decode()]})


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS.builtin, "text", Text())


def test_it_reads_files_globs_compressed_and_archives(tmp_path: Path) -> None:
    for n in range(3):
        (tmp_path / f"{n}.txt").write_text(f"a{n}\nb{n}\n")
    (tmp_path / "z.txt.gz").write_bytes(gzip.compress(b"z"))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/one.txt", "1\n2\n3")
    assert [row["line"] for row in Dataset.from_file(f"{tmp_path}/*.txt")] == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert [row["line"] for row in Dataset.from_file(f"{tmp_path}/z.txt.gz")] == ["z"]
    inside = Dataset.from_file(f"zip://in/*.txt::{tmp_path}/a.zip").filter("line != '2'")
    assert inside.save("lines").to_arrow().to_pylist() == [{"line": "1"}, {"line": "3"}]


def test_seed_a_text_file_of_the_web() -> None:
    """`xopen("https://…/some_text.txt")` of the seed."""
    pytest.importorskip("urllib3")
    with serving() as web:
        url = web.put("resolve/main/some_text.txt", b"hello\nworld\n")
        assert [row["line"] for row in Dataset.from_file(url)] == ["hello", "world"]
