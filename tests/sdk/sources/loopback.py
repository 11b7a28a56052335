"""A web server on this machine that counts what it serves and fails when told to."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[["Handler"], bool]
"""Answers a request itself, and then says so."""


@dataclass
class Web:
    """What is served under which path, and what has been asked for."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    """Each is used up by one GET."""
    ranges: bool = True
    sizes: bool = True
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    sent: int = 0

    def put(self, name: str, content: bytes) -> str:
        self.files[f"/{name}"] = content
        return f"{self.url}/{name}"

    @property
    def gets(self) -> list[str]:
        return [path for method, path, _ in self.requests if method == "GET"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        if self.web.faults and self.web.faults.pop(0)(self):
            self.web.requests.append(("GET", self.path, self.headers.get("Range")))
            return
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = self.path.split("?")[0]
        self.web.requests.append((self.command, path, self.headers.get("Range")))
        content = self.web.files.get(path)
        if content is None:
            self.status(404)
            return
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "") if self.web.ranges else None
        start, stop = (int(wanted[1]), int(wanted[2] or len(content)) + 1) if wanted else (0, len(content))
        piece = memoryview(content)[start:stop]
        self.send_response(206 if wanted else 200)
        if self.web.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{start + len(piece) - 1}/{len(content)}")
        self.send_header("ETag", f'"{hash(content)}"')
        if self.web.sizes:
            self.send_header("Content-Length", str(len(piece)))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if body:
            self.send(piece)

    def send(self, piece: Any) -> None:
        for start in range(0, len(piece), 1 << 16):
            try:
                self.wfile.write(piece[start : start + (1 << 16)])
            except OSError:  # the client has seen enough
                self.close_connection = True
                return
            self.web.sent += len(piece[start : start + (1 << 16)])

    def status(self, code: int, **headers: str) -> bool:
        self.send_response(code)
        self.send_header("Content-Length", "0")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        return True

    def log_message(self, format: str, *args: object) -> None:
        pass


def answers(code: int, **headers: str) -> Fault:
    return lambda handler: handler.status(code, **headers)


def resets(handler: Handler) -> bool:
    """The connection goes in the middle of the answer."""
    content = handler.web.files[handler.path]
    handler.send_response(206)
    handler.send_header("Content-Length", str(len(content)))
    handler.send_header("Content-Range", f"bytes 0-{len(content) - 1}/{len(content)}")
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])
    handler.wfile.flush()
    handler.close_connection = True
    return True


def hangs(seconds: float) -> Fault:
    def hang(handler: Handler) -> bool:
        time.sleep(seconds)
        handler.close_connection = True
        return True

    return hang


def serves(handler: Handler) -> bool:
    """No fault."""
    return False


@contextmanager
def serving() -> Iterator[Web]:
    web = Web()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"web": web}))
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that hang up are expected
    web.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
