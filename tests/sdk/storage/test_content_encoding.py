"""Bodies that a server compressed: decoded whole, or an error."""

from __future__ import annotations

import gzip
import io
import random
import zlib
from functools import partial

import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.errors import FileError
from lakefeed.storage.remote.content_encoding import decode_body
from tests.sdk.web import serving

CONTENT = random.Random(1).randbytes(100_000) + b"a" * 100_000


def raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data, wbits=-zlib.MAX_WBITS)


BODIES = {
    "gzip": (["gzip"], gzip.compress(CONTENT)),
    "two members": (["x-gzip"], gzip.compress(CONTENT[:7]) + gzip.compress(CONTENT[7:])),
    "padded": (["gzip"], gzip.compress(CONTENT) + bytes(100)),
    "deflate": (["deflate"], zlib.compress(CONTENT)),
    "without a header": (["deflate"], raw_deflate(CONTENT)),
    "twice": (["deflate", "gzip"], gzip.compress(zlib.compress(CONTENT))),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("size", [1 << 20, 1_000])
def test_a_body_is_read_whole_or_not_at_all(name: str, size: int) -> None:
    encodings, body = BODIES[name]

    def read_all(data: bytes) -> bytes:
        read = decode_body(io.BytesIO(data).read, encodings)
        pieces = list(iter(lambda: read(size), b""))
        assert max(map(len, pieces), default=0) <= size
        return b"".join(pieces)

    assert read_all(body) == CONTENT
    for end in (1, 5, 1_000, len(body.rstrip(b"\0")) - 9):
        with pytest.raises(EOFError):
            read_all(body[:end])
    with pytest.raises(zlib.error):
        read_all(b"no compressed data")


def test_an_empty_body_and_one_without_encoding() -> None:
    assert decode_body(io.BytesIO(b"").read, ["gzip"])(9) == b""
    assert decode_body(io.BytesIO(b"rows").read, [])(9) == b"rows"


def test_a_compressed_body_that_is_cut_is_never_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED__FILES__RETRIES", "0")
    content = b"x\n" + b"7\n" * 50_000
    with serving() as site:
        url = site.put("a", content)
        cut = gzip.compress(content)[:-20]
        site.always["/a"] = lambda handler: handler.answer(200, cut, Content_Encoding="gzip")
        rows = Dataset.from_dict({"file": [url]})
        for read in (
            lambda: Dataset.from_file(url, format="csv").to_arrow(),
            lambda: Dataset.from_file(url, format="csv", schema=pa.schema({"x": pa.int64()})).count(),
            partial(rows.save, "files", column_types={"file": "file"}, copy_files=True),
        ):
            with pytest.raises(FileError, match="ends before its end marker"):
                read()


def test_schemes_may_be_upper_case() -> None:
    with serving() as site:
        url = site.put("a.csv", b"x\n7\n").replace("http://", "HTTP://")
        assert Dataset.from_file(url).to_arrow()["x"].to_pylist() == [7]
        copied = Dataset.from_dict({"file": [url]}).save("web", column_types={"file": "file"}, copy_files=True)
        assert next(copied.rows(load_files=False))["file"]["size"] == 4
