from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest

from lakefeed.errors import FileError, MissingFileError, UnsupportedError
from lakefeed.storage.fetch import open_reference
from lakefeed.storage.urls import display_url


def test_paths_and_file_urls_and_memory(tmp_path: Path) -> None:
    (tmp_path / "a b.txt").write_bytes(b"abc")
    fsspec.filesystem("memory").pipe_file(f"/{tmp_path.name}/x", b"abc")
    for text in (str(tmp_path / "a b.txt"), (tmp_path / "a b.txt").as_uri(), f"memory://{tmp_path.name}/x"):
        with open_reference(text) as stream:
            assert stream.read() == b"abc"


@pytest.mark.parametrize("text", ["ftp://host/x", "zip://x::file://y", "reference://x", "nosuch://x"])
def test_what_this_version_cannot_fetch(text: str) -> None:
    with pytest.raises(UnsupportedError, match=r"cannot fetch .*'memory' and local paths are read\. Download"):
        open_reference(text)


def test_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingFileError, match=rf"no file 'gone' \(looked in {tmp_path}\)"):
        open_reference("gone")
    with pytest.raises(MissingFileError, match="memory://gone"):
        open_reference("memory://gone")


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for text in (str(tmp_path), str(tmp_path / "pipe"), "/dev/zero"):
        with pytest.raises(FileError, match="not a regular file"):
            open_reference(text)
    for text in ("null\0byte", "x" * 5000):
        with pytest.raises(FileError, match="cannot open"):
            open_reference(text)


def test_long_text_is_cut() -> None:
    assert len(display_url("x" * 5000)) < 210
