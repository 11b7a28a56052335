"""M45, M11: how files at URLs are fetched: kept connections, retries, limits in time, refusals, copies."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from lakefeed.config import FileSettings
from lakefeed.errors import FileError, MissingFileError, RefusedTargetError
from lakefeed.storage.cache import url_copies
from lakefeed.storage.cache.blob_cache import BlobCache
from lakefeed.storage.fetch import Fetch, open_reference
from lakefeed.storage.remote import egress_policy, http
from tests.sdk.processes import Program, context, run
from tests.sdk.web import Fault, Site, answers, chunked, drips, redirects, serving, short, stalls

CONTENT = bytes(range(256)) * 300


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


def fetch(tmp_path: Path | None = None, **settings: Any) -> Fetch:
    chosen = FileSettings(**{"retries": 3, "min_wait": 0.0, "max_wait": 0.2, "timeout": 5.0} | settings)
    return Fetch(None if tmp_path is None else BlobCache(tmp_path / "cache"), chosen)


def forget() -> None:
    """As a new process: nothing is known but what is on disk."""
    url_copies._remembered.clear()


# ---------------------------------------------------------------------------------------------------- the bytes


def test_connections_are_kept(site: Site) -> None:
    urls = [site.put(f"{n}.bin", CONTENT + b"%d" % n) for n in range(50)]
    before = site.connections
    assert [fetch().read(url) for url in urls] == [CONTENT + b"%d" % n for n in range(50)]
    assert site.connections - before <= 1


@pytest.mark.live
def test_a_fork_has_connections_of_its_own(site: Site) -> None:
    url = site.put("a.bin", CONTENT)
    assert fetch().read(url) == CONTENT
    program = f"""
import os, sys, warnings
from lakefeed.storage.fetch import Fetch
warnings.simplefilter("ignore")  # of threads and forks
assert len(Fetch().read({url!r})) == {len(CONTENT)}
child = os.fork()
if not child:
    os._exit(0 if all(len(Fetch().read({url!r})) == {len(CONTENT)} for _ in range(20)) else 1)
same = all(len(Fetch().read({url!r})) == {len(CONTENT)} for _ in range(20))
_, status = os.waitpid(child, 0)
sys.exit(status or not same)
"""
    run(program)


def test_a_body_of_unknown_size(site: Site, tmp_path: Path) -> None:
    url = site.put("a.bin", b"")
    site.always["/a.bin"] = chunked(CONTENT * 40)
    assert fetch().read(url) == CONTENT * 40
    assert fetch(tmp_path).path(url, ".bin").read_bytes() == CONTENT * 40


def test_an_open_reference_can_be_gone_through_twice(site: Site) -> None:
    with open_reference(site.put("a.bin", CONTENT)) as stream:
        assert stream.read(3) == CONTENT[:3]
        stream.seek(0)
        assert stream.read() == CONTENT


# ------------------------------------------------------------------------------------------------------ retries


FAULTS: dict[str, Fault] = {
    "429": answers(429),
    "429 seconds": answers(429, Retry_After="0"),
    "429 date": answers(429, Retry_After=format_datetime(datetime.now(UTC), usegmt=True)),
    "429 nonsense": answers(429, Retry_After="soon"),
    "500": answers(500),
    "503": answers(503),
    "short": short,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_passes_is_asked_again(site: Site, fault: str) -> None:
    url = site.put("a.bin", CONTENT)
    site.faults = [FAULTS[fault]] * 2
    assert fetch().read(url) == CONTENT
    assert site.asked["/a.bin"] == 3


@pytest.mark.live
@pytest.mark.parametrize("fault", [stalls, drips])
def test_a_server_that_does_not_go_on_is_given_up(site: Site, fault: Fault) -> None:
    url = site.put("a.bin", CONTENT)
    site.faults = [fault]
    begun = time.monotonic()
    assert fetch(timeout=0.3).read(url) == CONTENT
    assert time.monotonic() - begun < 2.5
    site.faults = [fault] * 2
    with pytest.raises(
        FileError, match=r"a\.bin' cannot be read after 2 tries: .* did not continue within 0\.3 seconds"
    ):
        fetch(timeout=0.3, retries=1).read(url)


def test_what_the_server_asks_to_wait_is_waited(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    url = site.put("a.bin", CONTENT)
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    limit = '"resolvers";r=0;t=7'  # as the Hugging Face Hub says it
    site.faults = [answers(429, Retry_After="3"), answers(503, Retry_After=in_a_minute), answers(429, RateLimit=limit)]
    site.faults += [answers(500)]
    assert fetch(max_wait=20.0, min_wait=0.5, retries=4).read(url) == CONTENT
    first, second, third, fourth = (wait for wait in waits if wait)  # without those of the server
    assert (first, second, third) == (3.0, 20.0, 7.0)
    assert 0.5 <= fourth <= 4.0


PARTS = st.text(alphabet="aZ09.-_~/%:@?#&=[]\\ ü", max_size=8)


@given(host=PARTS, port=st.sampled_from(["", ":1", ":80", ":65535", ":65536", ":0", ":x"]), path=PARTS, query=PARTS)
def test_a_plain_url_is_read_as_urllib3_reads_it(host: str, port: str, path: str, query: str) -> None:
    for url in (f"http://a{host}{port}/{path}?{query}", f"https://a{host}{port}{path}", f"http://a/{path}/{query}"):
        try:
            expected: object = parse_url(url)
        except LocationParseError as error:
            expected = str(error)
        try:
            found: object = http._parse(url)
        except LocationParseError as error:
            found = str(error)
        assert found == expected


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_what_does_not_pass_is_said_at_once(site: Site, status: int) -> None:
    url = site.put("a.bin", CONTENT)
    site.always["/a.bin"] = answers(status)
    expected = "there is no file" if status in (404, 410) else f"the server answered {status}"
    with pytest.raises(FileError, match=expected) as found:
        fetch().read(url)
    assert isinstance(found.value, MissingFileError) == (status in (404, 410))
    assert site.asked["/a.bin"] == 1


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/a.bin"
    with pytest.raises(FileError, match=r"cannot be read after 2 tries: ConnectionError: .*refused"):
        fetch(retries=1).read(url)
    for text in ("http://", "http:///a", "http://[::1/a", "http://a b/c"):
        with pytest.raises(FileError):
            fetch(retries=0).read(text)


# ----------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254", "169.254.1.1", "[fe80::1]", "[fd00:ec2::254]", "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]", "metadata.google.internal", "METADATA.google.internal.", "2852039166", "0xA9FEA9FE",
        "0251.0376.0251.0376",
    ],
)  # fmt: skip
def test_link_local_targets_are_refused(host: str, tmp_path: Path) -> None:
    for ask in (fetch(timeout=0.5).read, fetch(tmp_path, timeout=0.5).path):
        with pytest.raises(RefusedTargetError, match="link-local addresses serve credentials"):
            ask(f"http://{host}/latest/meta-data")


def test_the_address_that_is_connected_to_is_what_counts(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that answers harmlessly at first and differently later."""
    real = socket.getaddrinfo
    answered: list[str] = []

    def rebinding(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        if host != "rebinding.test":
            return real(host, port, *rest, **more)
        answered.append("127.0.0.1" if not answered else "169.254.169.254")
        return real(answered[-1], port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    url = site.put("a.bin", CONTENT).replace("127.0.0.1", "rebinding.test")
    assert fetch().read(url) == CONTENT
    assert answered == ["127.0.0.1"]
    site.always["/a.bin"] = redirects(url.replace("rebinding.test", "rebinding.test.") and "http://rebinding.test:9/b")
    with pytest.raises(RefusedTargetError):
        fetch().read(url)


def test_redirects(site: Site) -> None:
    url, other = site.put("a.bin", b""), site.put("b.bin", CONTENT)
    for status in (301, 302, 303, 307, 308):
        site.always["/a.bin"] = redirects("b.bin" if status == 301 else other, status)
        assert fetch().read(url) == CONTENT
    site.always["/a.bin"] = redirects("/a.bin")
    with pytest.raises(FileError, match="redirects more than 10 times"):
        fetch().read(url)
    assert site.asked["/a.bin"] == 5 + 11


@pytest.mark.parametrize("target", ["file:///etc/passwd", "https://127.0.0.1/a", "ftp://127.0.0.1/a", "gopher://x/"])
def test_redirects_to_another_scheme_are_refused(site: Site, target: str) -> None:
    url = site.put("a.bin", b"")
    site.always["/a.bin"] = redirects(target)
    with pytest.raises(RefusedTargetError, match="another scheme"):
        fetch().read(url)


def test_redirects_to_refused_hosts_are_refused(site: Site) -> None:
    url = site.put("a.bin", b"")
    site.always["/a.bin"] = redirects("http://169.254.169.254/latest/meta-data")
    with pytest.raises(RefusedTargetError, match="link-local"):
        fetch().read(url)
    site.always["/a.bin"] = redirects(site.put("b.bin", CONTENT).replace("127.0.0.1", "localhost"))
    assert fetch().read(url) == CONTENT
    with pytest.raises(RefusedTargetError, match=r"'localhost' are refused: files\.deny_hosts has 'LOCAL\*'"):
        fetch(deny_hosts=("LOCAL*",)).read(url)


def test_denied_hosts_by_name_and_address(site: Site) -> None:
    url = site.put("a.bin", CONTENT)
    with pytest.raises(RefusedTargetError, match="deny_hosts"):
        fetch(deny_hosts=("*.example.com", "127.*")).read(url)
    with pytest.raises(RefusedTargetError, match="deny_hosts"):
        fetch(deny_hosts=("127.0.0.1",)).read(url.replace("127.0.0.1", "localhost"))
    assert fetch(deny_hosts=("*.example.com",)).read(url) == CONTENT
    egress_policy.check_host("example.com", ["*.example.com"])


# -------------------------------------------------------------------------------------------------- credentials


def test_a_user_is_named_to_that_host_only(site: Site) -> None:
    url, other = site.put("a.bin", b""), site.put("b.bin", CONTENT)
    site.always["/a.bin"] = redirects(other.replace("127.0.0.1", "localhost"))
    assert fetch().read(url.replace("//", "//me:p%40ss@")) == CONTENT
    asked, other_asked = ({name.lower(): value for name, value in sent.items()} for sent in site.headers)
    assert asked["authorization"] == "Basic bWU6cEBzcw=="
    assert "authorization" not in other_asked


SECRET = "5ecr3tPlanted"


@pytest.mark.parametrize(
    "fault",
    [
        *(answers(403), answers(500), short, redirects("ftp://x/"), redirects("/a.bin"), answers(404)),
        pytest.param(stalls, marks=pytest.mark.live),
    ],
)
def test_credentials_appear_nowhere(site: Site, tmp_path: Path, fault: Fault, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="lakefeed")
    url = site.put("a.bin", CONTENT).replace("//", f"//user:{SECRET}@")
    for name in ("X-Amz-Signature", "sig", "token", "anything"):
        site.always["/a.bin"] = fault
        with pytest.raises(FileError) as found:
            fetch(tmp_path, timeout=0.2, retries=1).read(f"{url}?size=3&{name}={SECRET}#{name}={SECRET}")
        error: BaseException | None = found.value
        while error is not None:
            assert SECRET not in f"{error} {error!r}"
            error = error.__cause__
        site.always.clear()
        assert fetch(tmp_path).read(f"{url}?{name}={SECRET}") == CONTENT
    assert SECRET not in caplog.text
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if SECRET in str(path) or SECRET.encode() in path.read_bytes()]


# ------------------------------------------------------------------------------------------------------- copies


def test_a_copy_is_used_without_asking_while_it_is_fresh(site: Site, tmp_path: Path) -> None:
    url = site.put("a.tar.gz", CONTENT)
    assert fetch(tmp_path).read(url, ".tar.gz") == CONTENT
    path = fetch(tmp_path).path(url, ".tar.gz")
    assert (path.read_bytes(), path.name[-7:], path.stat().st_mode & 0o777) == (CONTENT, ".tar.gz", 0o444)
    forget()
    site.files.clear()
    assert fetch(tmp_path).read(url, ".tar.gz") == CONTENT
    assert site.asked["/a.tar.gz"] == 1


@pytest.mark.parametrize("mode", ["read", "path"])
def test_a_stale_copy_is_asked_about_and_costs_no_body(site: Site, tmp_path: Path, mode: str) -> None:
    def got() -> bytes:
        found = getattr(fetch(tmp_path, fresh=0.0), mode)(url)
        return found if isinstance(found, bytes) else found.read_bytes()

    url = site.put("a.bin", CONTENT)
    for _ in range(3):
        assert got() == CONTENT
        forget()
    assert (site.asked["/a.bin"], site.bodies["/a.bin"]) == (3, 1)
    site.put("a.bin", b"new")
    assert got() == b"new"
    assert got() == b"new"
    assert (site.asked["/a.bin"], site.bodies["/a.bin"]) == (5, 2)


def test_a_server_without_validators_is_asked_for_all(site: Site, tmp_path: Path) -> None:
    site.validators = False
    url = site.put("a.bin", CONTENT)
    assert [fetch(tmp_path, fresh=0.0).read(url) for _ in range(3)] == [CONTENT] * 3
    assert site.bodies["/a.bin"] == 3


@pytest.mark.parametrize("mode", ["read", "path"])
@pytest.mark.parametrize("fresh", [0.0, 300.0])
def test_a_bad_copy_is_fetched_again(site: Site, tmp_path: Path, mode: str, fresh: float) -> None:
    url = site.put("a.bin", CONTENT)
    copy = fetch(tmp_path).path(url)
    for content in (b"", b"x" * len(CONTENT), CONTENT[:-1]):
        copy.chmod(0o644)
        copy.write_bytes(content)
        found = getattr(fetch(tmp_path, fresh=fresh), mode)(url)
        assert (found if isinstance(found, bytes) else found.read_bytes()) == CONTENT
    for entry in (tmp_path / "cache" / "urls").rglob("*"):
        if entry.is_file():
            entry.write_bytes(entry.read_bytes()[:20])
    forget()
    assert fetch(tmp_path, fresh=fresh).read(url) == CONTENT


def test_equal_urls_are_fetched_once_by_many_threads(site: Site, tmp_path: Path) -> None:
    url = site.put("a.bin", CONTENT)
    site.latency = 0.2
    together = threading.Barrier(16)

    def one(_: int) -> bytes:
        together.wait()
        return fetch(tmp_path).read(url)

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(one, range(16))) == [CONTENT] * 16
    assert site.asked["/a.bin"] == 1


def _child(url: str, cache: str, go: Any) -> None:
    go.wait()
    assert Fetch(BlobCache(Path(cache)), FileSettings()).path(url, ".bin").read_bytes() == CONTENT


@pytest.mark.live
def test_equal_urls_are_fetched_once_by_many_processes(site: Site, tmp_path: Path) -> None:
    url = site.put("a.bin", CONTENT)
    site.latency = 0.2
    go = context().Event()
    children = [context().Process(target=_child, args=(url, str(tmp_path / "cache"), go)) for _ in range(3)]
    for child in children:
        child.start()
    go.set()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * 3
    assert site.asked["/a.bin"] == 1


@pytest.mark.live
def test_a_process_that_is_killed_holds_up_nobody(site: Site, tmp_path: Path) -> None:
    url = site.put("a.bin", CONTENT)
    site.faults = [stalls]
    program = f"""
from pathlib import Path
from lakefeed.storage.cache.blob_cache import BlobCache
from lakefeed.storage.fetch import Fetch
Fetch(BlobCache(Path({str(tmp_path / "cache")!r}))).path({url!r})
"""
    killed = Program(program)
    while not site.asked["/a.bin"]:
        time.sleep(0.01)
    time.sleep(0.1)
    killed.kill()
    killed.finish()
    assert fetch(tmp_path).path(url).read_bytes() == CONTENT
    assert len([path for path in (tmp_path / "cache" / "sha256").rglob("*") if path.is_file()]) == 1


def test_a_guard_lets_go_of_threads_that_are_done(site: Site) -> None:
    fetch().read(site.put("a.bin", CONTENT))
    assert not http.deadlines_by_thread
