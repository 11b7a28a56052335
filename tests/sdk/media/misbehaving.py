"""A probe that does to its process what the file says. It runs in a process that has not imported lakefeed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

KEPT: list[bytes] = []


def probe(stream: BinaryIO) -> Mapping[str, Any]:
    command, _, argument = stream.read().decode().partition(" ")
    match command:
        case "length":
            return {"length": float(argument)}
        case "answer":
            return {"length": argument, "unknown": 1}
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            os._exit(3)
        case "hang":
            time.sleep(600)
        case "spin":
            while True:
                pass
        case "swallow":
            KEPT.append(b"x" * int(argument))
        case "write":
            Path(argument).write_bytes(b"x" * 100_000)
        case "environment":
            return {"length": float(argument in os.environ)}
        case "process":
            return {"length": float(os.getpid())}
        case "lakefeed":
            import lakefeed

            return {"length": float(len(lakefeed.__all__))}
    raise ValueError(f"unknown command {command!r}")
