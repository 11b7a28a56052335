"""Dagster's UI with a quiet log: ``python -m dataset_assets.demo.ui HOST PORT [options of dagster dev]``."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from dataset_assets.demo.server import ROOT

# `dg dev`, which Dagster recommends instead, does not take a workspace file.
WARNINGS = "ignore:Function `dev_command` is superseded"


def main(arguments: Sequence[str]) -> int:
    """Replaces this process by Dagster. Returns the exit status if that is not possible."""
    host, port, *options = arguments
    problem = port_problem(host, port)
    if problem:
        print(problem, file=sys.stderr, flush=True)
        return 1
    print(f"Dagster is starting; open http://{host}:{port} in a few seconds. Ctrl-C ends it.", flush=True)
    command = [str(Path(sys.executable).parent / "dagster"), "dev", "-w", str(ROOT / "workspace.yaml")]
    command += ["-h", host, "-p", port, "--log-level", "warning", *options]
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [WARNINGS, os.environ.get("PYTHONWARNINGS")]))
    # In the repository it would warn of the dagster.yaml there, which is the origin of the one in its home.
    os.chdir(os.environ.get("DAGSTER_HOME") or ROOT)
    os.execv(command[0], command)


def port_problem(host: str, port: str) -> str | None:
    """Returns the reason for which nothing can listen at a port; None if it can.

    Dagster itself would go on without its UI.
    """
    if not port.isdecimal() or not 0 < int(port) < 2**16:
        return f"{port!r} is not a port: use a number from 1 to 65535, such as make ui PORT=3001"
    try:
        (family, kind, _, _, address), *_ = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
        with socket.socket(family, kind) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
    except OSError as error:
        return (
            f"Dagster's UI cannot listen on {host}:{port}: {error.strerror}. Perhaps it is running there already; "
            f"to use another port: make ui PORT={int(port) % 65535 + 1}"
        )
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
