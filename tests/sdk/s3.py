"""An S3 that runs in this process, on a free port of this machine."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec


@contextmanager
def s3_server() -> Iterator[dict[str, Any]]:
    """What fsspec opens it with."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield {"key": "any", "secret": "any", "client_kwargs": {"endpoint_url": f"http://{host}:{port}"}}
    finally:
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        server.stop()


def new_bucket(options: dict[str, Any], name: str) -> str:
    """The URL of a new bucket."""
    fsspec.filesystem("s3", **options).call_s3("create_bucket", Bucket=name)
    return f"s3://{name}"
