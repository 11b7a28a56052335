"""Servers that answer requests of ranges in odd ways, as users of other libraries have reported them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from lakefeed.errors import FileError
from lakefeed.storage.remote.retrying_file import open_retrying
from tests.sdk.web import Fault, Handler, Site, answers, serving

CONTENT = b"".join(number.to_bytes(4, "big") for number in range(600_000))
BLOCK_BYTES = 4_096


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED__FILES__MIN_WAIT", "0")
    monkeypatch.setenv("LAKEFEED__FILES__MAX_WAIT", "0.01")


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        site.put("a.bin", CONTENT)
        yield site


def serve_parts(choose: Callable[[int, int], tuple[int, int]]) -> Fault:
    """Serves another part than was requested, and says so."""

    def fault(handler: Handler) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers.get("Range") or "")
        if wanted is None:
            handler.serve()
            return
        start, stop = choose(int(wanted[1]), min(int(wanted[2]) + 1, len(CONTENT)))
        span = f"bytes {start}-{stop - 1}/{len(CONTENT)}"
        handler.answer(206, CONTENT[start:stop], Content_Range=span, ETag=f'"{hash(CONTENT)}"')

    return fault


def read_everywhere(url: str) -> None:
    """Reads from front to back, and at positions in any order."""
    with open_retrying(url) as stream:
        assert stream.read() == CONTENT
    with open_retrying(url, 0) as stream:
        for position, size in ((2_000_001, 100), (5, 10), (len(CONTENT) - 10, 50), (len(CONTENT), 10), (70_000, 9_999)):
            stream.seek(position)
            assert stream.read(size) == CONTENT[position : position + size]


ODD_PARTS: dict[str, Callable[[int, int], tuple[int, int]]] = {
    "from the beginning of a block": lambda start, stop: (start // BLOCK_BYTES * BLOCK_BYTES, stop),
    "to the end of a block": lambda start, stop: (start, min(-(-stop // BLOCK_BYTES) * BLOCK_BYTES, len(CONTENT))),
    "the whole": lambda start, stop: (0, len(CONTENT)),
    "less": lambda start, stop: (start, min(stop, start + 300_000)),
}


@pytest.mark.parametrize("parts", ODD_PARTS)
def test_parts_that_contain_the_range_are_used(site: Site, parts: str) -> None:
    site.always["/a.bin"] = serve_parts(ODD_PARTS[parts])
    read_everywhere(f"{site.url}/a.bin")
    assert site.sent < 6 * len(CONTENT), "a server that sends the whole is asked for it a few times, not for each read"


def test_a_part_that_lacks_the_first_byte_is_an_error(site: Site) -> None:
    site.always["/a.bin"] = serve_parts(lambda start, stop: (start + 5, stop))
    with pytest.raises(FileError, match="the server sent bytes from 5, expected them from 0"):
        open_retrying(f"{site.url}/a.bin", 0)


@pytest.mark.parametrize("status", [509, 520, 522, 524, 529, 599])
def test_errors_of_the_moment_that_no_standard_has_are_retried(site: Site, status: int) -> None:
    site.faults = [answers(status)] * 2
    with open_retrying(f"{site.url}/a.bin", 0) as stream:
        assert stream.read(100) == CONTENT[:100]


@pytest.mark.parametrize("status", [501, 505, 511])
def test_errors_that_mean_the_request_are_said_at_once(site: Site, status: int) -> None:
    site.always["/a.bin"] = answers(status)
    with pytest.raises(FileError, match=f"the server answered {status}"):
        open_retrying(f"{site.url}/a.bin", 0)
    assert site.asked["/a.bin"] == 1


def test_informational_responses_are_skipped(site: Site) -> None:
    def hint(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        handler.serve()

    site.always["/a.bin"] = hint
    read_everywhere(f"{site.url}/a.bin")
