"""Dagster's UI as a process: of a project, or of a temporary home that shows the datasets of a lake."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lakefeed import errors
from lakefeed.cli.ui_project import UiProject

WEBSERVER = "dagster_webserver"
INSTALL = "pip install 'dagster-webserver>=1.13,<1.14'"
STOP_SECONDS = 10.0
POLL_SECONDS = 0.2
TAIL_CHARS = 2_000

INSTANCE = "nux: {enabled: false}\ntelemetry: {enabled: false}\n"
DEFINITIONS = '''"""The datasets of the lake as assets that nothing can materialize. Made by `lakefeed ui`."""

import json

import dagster as dg

import lakefeed

VERSIONS = 20


def key_of(name):
    return dg.AssetKey(["datasets", *name.split(".")])


def facts_of(dataset):
    """Returns description, sources and metadata of a dataset; of a damaged one, the error."""
    try:
        versions, schema = dataset.list_versions(), dataset.schema
        description = dataset.description
        tags = dataset.tags()
    except lakefeed.errors.LakefeedError as error:
        return str(error), [], {"error": str(error)}
    works = [json.loads(each.work) for each in versions[:VERSIONS] if each.work]
    sources = [source for work in works for source in work.get("sources", ())]
    kinds = dataset.column_types
    columns = [dg.TableColumn(field.name, kinds.get(field.name, str(field.type))) for field in schema]
    metadata = {"dagster/column_schema": dg.TableSchema(columns=columns)}
    if versions:
        metadata |= {
            "dagster/row_count": versions[0].total_records,
            "version": versions[0].version,
            "bytes": versions[0].total_bytes,
            "changed": dg.MetadataValue.timestamp(versions[0].timestamp_ms / 1000),
            "tags": ", ".join(f"{tag} (v{version})" for tag, version in tags.items()),
            "versions": dg.MetadataValue.md(table_of(versions)),
        }
    return description, sources, metadata


def table_of(versions):
    """Returns the newest versions as a Markdown table."""
    lines = ["| version | added | removed | rows | by | message |", "|---|---|---|---|---|---|"]
    for each in versions[:VERSIONS]:
        texts = [f"v{each.version}", *(f"{count:,}" for count in (each.added_records, each.deleted_records))]
        texts += [f"{each.total_records:,}", each.user or "", (each.message or "")[:100]]
        lines.append("| " + " | ".join(text.replace("|", "\\\\|").replace("\\n", " ") for text in texts) + " |")
    return "\\n".join(lines)


def closes_circle(edges, source, name):
    """Returns whether a source is made of a dataset, directly or not."""
    waiting, seen = [source], set()
    while waiting:
        each = waiting.pop()
        if each == name:
            return True
        if each not in seen:
            seen.add(each)
            waiting += edges.get(each, [])
    return False


def specs():
    """Yields an asset for each dataset."""
    edges = {}
    for dataset in lakefeed.list_datasets():
        description, sources, metadata = facts_of(dataset)
        named = [each for each in dict.fromkeys(sources) if not closes_circle(edges, each, dataset.name)]
        edges[dataset.name] = named
        yield dg.AssetSpec(
            key_of(dataset.name),
            deps=[key_of(each) for each in named],
            description=description,
            metadata=metadata,
            kinds={"dataset"},
            group_name=dataset.name.rpartition(".")[0].replace(".", "_").replace("-", "_") or "lake",
        )


defs = dg.Definitions(assets=list(specs()))
'''


def require_webserver() -> None:
    """Checks that Dagster's webserver is installed.

    Raises:
        MissingDependencyError: it is missing. The message has the command that installs it.
    """
    if importlib.util.find_spec(WEBSERVER) is None:
        raise errors.MissingDependencyError(f"lakefeed ui shows the lake in Dagster, which is not installed: {INSTALL}")


def free_port(host: str) -> int:
    """Returns a port on which nothing listens."""
    with socket.socket() as listener:
        listener.bind((host, 0))
        return int(listener.getsockname()[1])


def check_port(host: str, port: int) -> None:
    """Checks that a port can be listened to.

    Raises:
        UnsupportedError: it is taken, or the host is not of this machine.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise errors.UnsupportedError(
                f"{host}:{port} cannot be used ({error.strerror}); choose another --port"
            ) from None


@contextmanager
def running_webserver(
    host: str, port: int, project: UiProject | None = None, read_only: bool = True
) -> Iterator[subprocess.Popen[bytes]]:
    """Yields the process of a webserver that answers. At the end it is stopped, and its folder is removed.

    Args:
        host: the address to listen to.
        port: the port.
        project: the project to serve; None for the datasets of the lake.
        read_only: nothing can be launched or changed in the UI. Otherwise Dagster's daemon runs, too.

    Raises:
        UnsupportedError: it ended by itself. The message has the end of its output.
    """
    folder = Path(tempfile.mkdtemp(prefix="lakefeed-ui-"))
    try:
        (folder / "dagster.yaml").write_text(INSTANCE)
        environment = {"DAGSTER_HOME": str(folder), **os.environ, "DAGSTER_DISABLE_TELEMETRY": "yes"}
        if project is None:
            definitions = folder / "lakefeed_datasets.py"
            definitions.write_text(DEFINITIONS)
            arguments = ["-f", str(definitions)]
            environment["DAGSTER_HOME"] = str(folder)
        else:
            arguments = list(project.arguments)
        program = [WEBSERVER, "--read-only"] if read_only else ["dagster", "dev"]
        command = [sys.executable, "-m", *program, "-h", host, "-p", str(port), *arguments]
        with (folder / "log").open("wb") as log:
            # In a session of its own, so that Ctrl-C reaches this process only, which stops the whole group.
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=None if project is None else project.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            _wait_for_answer(process, host, port, folder / "log")
            yield process
            _check_running(process, folder / "log")
        finally:
            _stop(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for_answer(process: subprocess.Popen[bytes], host: str, port: int, log: Path) -> None:
    url = f"http://{_reachable(host)}:{port}/server_info"
    while True:
        _check_running(process, log)
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(POLL_SECONDS)


def _check_running(process: subprocess.Popen[bytes], log: Path) -> None:
    if process.poll() is not None:
        tail = log.read_text("utf-8", "replace")[-TAIL_CHARS:]
        raise errors.UnsupportedError(f"Dagster ended with {process.returncode}:\n{tail}")


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stops a process with those that it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline and _group_exists(process):
            time.sleep(POLL_SECONDS / 4)
    process.wait()


def _group_exists(process: subprocess.Popen[bytes]) -> bool:
    process.poll()  # else it stays as a zombie
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True
