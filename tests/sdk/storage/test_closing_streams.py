"""Streams of web servers that are closed, or dropped, before their end."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lakefeed.errors import MissingFileError
from lakefeed.storage.remote.retrying_file import open_retrying
from tests.sdk.processes import run
from tests.sdk.web import Handler, Site, answers, redirects, serving

CONTENT = bytes(range(256)) * 160
BEGIN_BYTES = 4_096
BOUND_SECONDS = 15.0
"""Far below the timeout of requests, and far above the time that a close takes."""


class SlowServer:
    """Sends the beginning of a body, and the rest only after ``go_on``: never, or a byte now and then."""

    def __init__(self, site: Site) -> None:
        self.site, self.go_on = site, threading.Event()

    def hold(self, handler: Handler) -> None:
        self._begin(handler, 200)
        self.go_on.wait(BOUND_SECONDS * 2)

    def drip(self, handler: Handler) -> None:
        self._begin(handler, 200)
        while not self.go_on.wait(0.005):
            handler.wfile.write(b"x")

    def redirect(self, handler: Handler) -> None:
        self._begin(handler, 302, Location="/b.bin")
        self.go_on.wait(BOUND_SECONDS * 2)

    def miss(self, handler: Handler) -> None:
        self._begin(handler, 404)
        self.go_on.wait(BOUND_SECONDS * 2)

    def _begin(self, handler: Handler, status: int, **headers: str) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(CONTENT)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(CONTENT[:BEGIN_BYTES])
        handler.close_connection = True


@pytest.fixture
def slow() -> Iterator[SlowServer]:
    with serving() as site:
        server = SlowServer(site)
        yield server
        server.go_on.set()


def drop_in_a_cycle(url: str) -> None:
    cycle: list[Any] = [open_retrying(url, 0)]
    assert cycle[0].read(10) == CONTENT[:10]
    cycle.append(cycle)


def close_at_once(url: str) -> None:
    with open_retrying(url, 0) as stream:
        assert stream.read(10) == CONTENT[:10]


@pytest.mark.parametrize("fault", [SlowServer.hold, SlowServer.drip])
@pytest.mark.parametrize("drop", [close_at_once, drop_in_a_cycle])
def test_closing_a_stream_does_not_wait_for_its_server(
    slow: SlowServer, drop: Callable[[str], None], fault: Callable[[SlowServer, Handler], None]
) -> None:
    slow.site.always["/a.bin"] = lambda handler: fault(slow, handler)
    url = slow.site.put("a.bin", CONTENT)
    begin = time.monotonic()
    drop(url)
    collector = threading.Thread(target=gc.collect)  # closes what was dropped, in a thread that did not open it
    collector.start()
    collector.join()
    assert time.monotonic() - begin < BOUND_SECONDS


def test_bodies_of_redirects_and_errors_are_not_waited_for(slow: SlowServer) -> None:
    slow.site.put("b.bin", CONTENT)
    slow.site.always |= {"/a.bin": slow.redirect, "/c.bin": slow.miss}
    begin = time.monotonic()
    with open_retrying(f"{slow.site.url}/a.bin", 0) as stream:
        assert stream.read() == CONTENT
    with pytest.raises(MissingFileError):
        open_retrying(f"{slow.site.url}/c.bin", 0)
    assert time.monotonic() - begin < BOUND_SECONDS


def test_small_bodies_that_are_not_wanted_keep_the_connection(slow: SlowServer) -> None:
    site = slow.site
    site.put("b.bin", CONTENT)
    site.always |= {"/a.bin": redirects("/b.bin"), "/c.bin": answers(404)}
    for _ in range(20):
        with open_retrying(f"{site.url}/a.bin", 0) as stream:
            assert stream.read(1_000) == CONTENT[:1_000]
        with pytest.raises(MissingFileError):
            open_retrying(f"{site.url}/c.bin", 0)
    assert len(site.requests) >= 60
    assert site.connections <= 10  # one, unless a body is late on a busy machine


def test_streams_are_collected_in_the_middle_of_other_requests(slow: SlowServer) -> None:
    """With a lock in the pool of connections, a collection inside of it would never end."""
    slow.site.ranges = False
    url = slow.site.put("a.bin", CONTENT)
    threshold = gc.get_threshold()
    gc.set_threshold(3, 2, 2)
    try:
        for _ in range(30):
            drop_in_a_cycle(url)
    finally:
        gc.set_threshold(*threshold)
    assert open_retrying(url, 0).read() == CONTENT


@pytest.mark.live
def test_a_forked_process_leaves_the_rest_of_a_body_to_its_parent() -> None:
    run("""
import os, sys, warnings
from lakefeed.storage.remote.retrying_file import open_retrying
from tests.sdk.web import serving
warnings.simplefilter("ignore")  # of threads and forks
with serving() as site:
    site.ranges = False
    content = bytes(range(256)) * 160
    stream = open_retrying(site.put("a.bin", content), 0)
    begin = stream.read(10)
    child = os.fork()
    if not child:
        stream.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert begin + stream.read() == content
    assert len(site.requests) == 1, site.requests  # nothing was read again
""")


@pytest.mark.live
def test_a_forked_process_and_its_parent_read_on_without_each_other() -> None:
    run("""
import os, signal, warnings
from lakefeed.storage.remote.retrying_file import open_retrying
from tests.sdk.web import serving
warnings.simplefilter("ignore")  # of threads and forks
MIB = 1 << 20
content = os.urandom(8 * MIB + 5)

def read_twice(stream):
    position = stream.tell()
    child = os.fork()
    if not child:
        signal.alarm(60)
        os._exit(0 if stream.read() == content[position:] else 1)
    same = stream.read() == content[position:]
    assert os.waitpid(child, 0)[1] == 0, "the child"
    assert same, "the parent"

with serving() as site:
    url = site.put("a.bin", content)
    site.latency = 0.1
    ahead = open_retrying(url, MIB)
    for _ in range(3):
        ahead.read(MIB)
    read_twice(ahead)  # while threads fetch ranges
    site.latency, site.ranges = 0, False
    whole = open_retrying(url, MIB)
    whole.read(10)
    read_twice(whole)  # while a response is open
    copied = open_retrying(url, MIB)
    copied.read(10)
    copied.seek(5)
    read_twice(copied)  # while both have a local copy
    copied.seek(9 * MIB)
    assert copied.read(10) == b""
    for stream in (ahead, whole, copied):
        stream.close()
""")
