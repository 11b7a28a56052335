"""Ranges of remote files that are fetched ahead, while a file is read from front to back and only then."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing

import pytest

from lakefeed._units import KIB, MIB
from lakefeed.errors import FileError
from lakefeed.storage.remote.range_buffer import RANGES_AHEAD
from lakefeed.storage.remote.retrying_file import open_retrying
from tests.sdk.web import Site, answers, serving

CONTENT = random.Random(0).randbytes(10 * MIB + 1)


@pytest.fixture
def url_and_site(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Site]]:
    monkeypatch.setenv("LAKEFEED__FILES__MIN_WAIT", "0")
    with serving() as site:
        yield site.put("a.bin", CONTENT), site


def ranges(site: Site) -> list[tuple[int, int]]:
    pairs = [each.removeprefix("bytes=").split("-") for _, _, each in site.requests if each is not None]
    return sorted((int(first), int(last) + 1) for first, last in pairs)


def test_a_file_that_is_read_from_front_to_back(url_and_site: tuple[str, Site]) -> None:
    url, site = url_and_site
    site.latency = 0.02
    with closing(open_retrying(url, MIB)) as file:
        pieces = []
        while piece := file.read(300 * KIB):
            pieces.append(piece)
    assert b"".join(pieces) == CONTENT
    assert 2 <= site.most_at_once <= RANGES_AHEAD + 1
    edges = [number * MIB for number in range(11)]
    assert ranges(site) == list(zip(edges, [*edges[1:], len(CONTENT)], strict=True))  # each byte once
    site.requests.clear()
    with closing(open_retrying(url, MIB)) as file:
        file.read(KIB)
        assert ranges(site) == [(0, MIB)]  # who reads the beginning causes no more requests
        file.read(MIB)
    assert all(stop <= 3 * MIB for _, stop in ranges(site))


def test_reads_at_random_positions_fetch_nothing_ahead(url_and_site: tuple[str, Site]) -> None:
    url, site = url_and_site
    with closing(open_retrying(url, MIB)) as file:
        positions = [9 * MIB, 2 * MIB, 7 * MIB, 10 * MIB, 0, 5 * MIB]
        for position in positions:
            file.seek(position)
            assert file.read(10) == CONTENT[position : position + 10]
    assert [start for start, _ in ranges(site)] == sorted([0, *positions])  # 0: as it was opened
    site.requests.clear()
    with closing(open_retrying(url, 0)) as file:  # as for a footer: nothing beyond what is asked for
        for start in range(0, 64 * KIB, 16 * KIB):
            assert file.read(16 * KIB) == CONTENT[start : start + 16 * KIB]
    assert site.most_at_once == 1


@pytest.mark.parametrize("position", [0, 3 * MIB + 5])
def test_ranges_ahead_that_fail_are_requested_again(url_and_site: tuple[str, Site], position: int) -> None:
    url, site = url_and_site
    with closing(open_retrying(url, MIB)) as file:
        file.seek(position)
        pieces = [file.read(2 * MIB)]
        site.faults = [answers(503)] * 2
        while piece := file.read(MIB):
            pieces.append(piece)
    assert b"".join(pieces) == CONTENT[position:]
    with closing(open_retrying(url, MIB)) as file:
        file.read(MIB)
        site.always["/a.bin"] = answers(404)
        with pytest.raises(FileError, match="there is no file"):
            file.read(5 * MIB)
