"""A tar archive is read whole or not at all."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.errors import FormatError, MissingFileError

ROWS = 300


def zstd(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd,
}  # fmt: skip


def archive(link: bytes = b"", target: str = "") -> bytes:
    """Three members of 100 rows each, and perhaps a link."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for member in range(3):
            content = "x\n" + "".join(f"{row}\n" for row in range(member * 100, member * 100 + 100))
            info = tarfile.TarInfo(f"{member}.csv")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content.encode()))
        if link:
            info = tarfile.TarInfo("3.csv")
            info.type, info.linkname = link, target
            tar.addfile(info)
    return sink.getvalue()


def read(name: str, content: bytes) -> list[int | None]:
    Path(name).write_bytes(content)
    table = Dataset.from_file(f"tar://*.csv::{name}", schema=pa.schema({"x": pa.int64()})).to_arrow()
    return table["x"].to_pylist()


def headers(content: bytes) -> list[int]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return [member.offset for member in tar.getmembers()]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_an_archive_that_is_cut_anywhere_is_an_error() -> None:
    whole = archive()
    last = headers(whole)[-1]
    assert read("whole.tar", whole) == list(range(ROWS))
    for end in (last, last + 100, last + 512, last + 600, last + 1024):
        with pytest.raises(FormatError, match=r"it was cut|unexpected end of data"):
            read("cut.tar", whole[:end])


def test_a_damaged_header_does_not_end_an_archive() -> None:
    whole = archive()
    for header in headers(whole)[1:]:
        damaged = bytearray(whole)
        damaged[header + 126] ^= 1  # a digit of the size
        with pytest.raises(FormatError, match=f"the header at byte {header} is damaged"):
            read("damaged.tar", bytes(damaged))


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_a_compressed_archive_of_several_streams_is_read_whole_and_checked(suffix: str) -> None:
    compress, whole = COMPRESSIONS[suffix], archive()
    middle = len(whole) // 2
    several = compress(whole[:middle]) + compress(whole[middle:])  # so bgzip, pigz -i, pbzip2 and pixz write
    assert read(f"several.tar.{suffix}", several) == list(range(ROWS))
    assert read("no_suffix", several) == list(range(ROWS))
    with pytest.raises(FormatError):
        read(f"cut.tar.{suffix}", several[:-12])


def test_the_checksum_of_a_compressed_archive_is_compared() -> None:
    damaged = bytearray(gzip.compress(archive()))
    damaged[-6] ^= 1
    with pytest.raises(FormatError, match="CRC check failed"):
        read("damaged.tar.gz", bytes(damaged))


@pytest.mark.parametrize(("link", "target"), [(tarfile.LNKTYPE, "0.csv"), (tarfile.SYMTYPE, "/etc/passwd")])
def test_a_link_among_the_members_is_not_left_out_silently(link: bytes, target: str) -> None:
    content = archive(link, target)
    with pytest.raises(MissingFileError, match=rf"'3\.csv' .* is a link to '{target}', not a file.*--hard-dereference"):
        read("links.tar", content)
    assert len(Dataset.from_file("tar://[012].csv::links.tar").to_arrow()) == ROWS
