"""A web server on this machine: files with validators and ranges, and faults that are used up one a request."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[["Handler"], None]
PIECE_BYTES = 1 << 16


@dataclass
class Site:
    """What is served, and what was asked."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    always: dict[str, Fault] = field(default_factory=dict)
    """By path: what every request to it meets."""
    validators: bool = True
    ranges: bool = True
    sizes: bool = True
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, path and range."""
    sent: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    bodies: Counter[str] = field(default_factory=Counter)
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: int = 0
    at_once: int = 0
    most_at_once: int = 0
    latency: float = 0.0
    handler: Any = None
    """The class that answers."""

    def put(self, name: str, content: bytes) -> str:
        self.files[f"/{name}"] = content
        return f"{self.url}/{name}"

    @property
    def gets(self) -> list[str]:
        return [path for method, path, _ in self.requests if method == "GET"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    site: Site
    lock = threading.Lock()

    def setup(self) -> None:
        super().setup()
        with self.lock:
            self.site.connections += 1

    def do_HEAD(self) -> None:
        self.noted()
        self.serve()

    def do_GET(self) -> None:
        site = self.site
        path = self.noted()
        with self.lock:
            site.asked[path] += 1
            site.headers.append(dict(self.headers))
            site.at_once += 1
            site.most_at_once = max(site.most_at_once, site.at_once)
            fault = site.always.get(path) or (site.faults.pop(0) if site.faults else None)
        time.sleep(site.latency)
        with self.lock:
            site.at_once -= 1  # before the answer, after which the client may ask again at once
        try:
            (fault or Handler.serve)(self)
        except OSError:  # the client has gone
            self.close_connection = True

    def noted(self) -> str:
        path = self.path.split("?")[0]
        with self.lock:
            self.site.requests.append((self.command, path, self.headers.get("Range")))
        return path

    @property
    def content(self) -> bytes | None:
        return self.site.files.get(self.path.split("?")[0])

    def serve(self) -> None:
        content, site = self.content, self.site
        if content is None:
            self.answer(404)
            return
        tag = {"ETag": f'"{hash(content)}"'} if site.validators else {}
        if tag and self.headers.get("If-None-Match") == tag["ETag"]:
            self.send_response(304)
            self.end_headers()
            return
        with self.lock:
            site.bodies[self.path.split("?")[0]] += self.command == "GET"
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "") if site.ranges else None
        start, stop = (int(wanted[1]), int(wanted[2] or len(content)) + 1) if wanted else (0, len(content))
        piece = content[start:stop]
        ranges = {"Accept-Ranges": "bytes"} if site.ranges else {}
        if wanted:
            ranges["Content-Range"] = f"bytes {start}-{start + len(piece) - 1}/{len(content)}"
        self.answer(206 if wanted else 200, piece, **ranges, **tag)

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        if self.site.sizes:
            headers = {"Content-Length": str(len(content)), **headers}
        else:
            headers["Connection"] = "close"
            self.close_connection = True
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.send(content)

    def send(self, content: bytes) -> None:
        for start in range(0, len(content), PIECE_BYTES):
            piece = content[start : start + PIECE_BYTES]
            self.wfile.write(piece)
            self.site.sent += len(piece)

    def log_message(self, format: str, *args: object) -> None:
        pass


def answers(status: int, **headers: str) -> Fault:
    return lambda handler: handler.answer(status, b"no", **headers)


def redirects(target: str, status: int = 302) -> Fault:
    return answers(status, Location=target)


def serves(handler: Handler) -> None:
    """No fault."""
    handler.serve()


def hangs(seconds: float) -> Fault:
    def hang(handler: Handler) -> None:
        time.sleep(seconds)
        handler.close_connection = True

    return hang


def short(handler: Handler) -> None:
    """Promises more than it sends."""
    content = handler.content or b""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])
    handler.close_connection = True


def resets(handler: Handler) -> None:
    """As `short`, for who asks for a range."""
    content = handler.content or b""
    handler.send_response(206)
    handler.send_header("Content-Length", str(len(content)))
    handler.send_header("Content-Range", f"bytes 0-{len(content) - 1}/{len(content)}")
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])
    handler.close_connection = True


def stalls(handler: Handler) -> None:
    """Sends half, and then nothing for some seconds."""
    content = handler.content or b""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])
    time.sleep(3)
    handler.close_connection = True


def drips(handler: Handler) -> None:
    """Sends a byte of a header now and then: no single read of it takes long."""
    for _ in range(60):
        handler.wfile.write(b"H")
        time.sleep(0.05)
    handler.close_connection = True


def chunked(content: bytes) -> Fault:
    def fault(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for start in range(0, len(content), 1 << 18):
            piece = content[start : start + (1 << 18)]
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        handler.wfile.write(b"0\r\n\r\n")

    return fault


@contextmanager
def serving() -> Iterator[Site]:
    site = Site()
    site.handler = type("Bound", (Handler,), {"site": site})
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), site.handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # clients that hang up are expected
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
