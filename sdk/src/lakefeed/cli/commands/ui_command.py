"""``lakefeed ui``: the datasets of the lake in Dagster's UI."""

from __future__ import annotations

import signal
import webbrowser
from pathlib import Path
from types import FrameType

import click

from lakefeed.cli.invocation import Invocation, flush
from lakefeed.cli.references import lake_exists
from lakefeed.cli.shared_options import lake_command
from lakefeed.cli.ui_home import check_port, free_port, require_webserver, running_webserver
from lakefeed.cli.ui_project import find_project


@lake_command("ui")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="HOST", help="The address to listen to.")
@click.option("-p", "--port", type=click.IntRange(0, 65_535), default=3000, show_default=True, help="0: a free one.")
@click.option("--read-only", is_flag=True, help="Show a project, and launch and change nothing in it.")
@click.option("--no-project", is_flag=True, help="Show the lake, also in the folder of a project.")
@click.option("--browser", is_flag=True, help="Open the page in a browser.")
def ui_command(invocation: Invocation, host: str, port: int, read_only: bool, no_project: bool, browser: bool) -> None:
    """Show the Dagster project of the current folder, or the datasets of the lake, in Dagster's UI, until Ctrl-C.

    A folder with a workspace.yaml, or a pyproject.toml that names definitions, is a project: its UI, sensors and
    schedules run. Elsewhere the UI shows columns, versions, tags and lineage of the lake, and is read-only. It needs
    Dagster's webserver.
    """
    require_webserver()
    project = None if no_project else find_project(Path.cwd())
    if project is not None:
        invocation.message(f"serving the project of {project.file}")
    elif not lake_exists():
        invocation.message("lakefeed: there is no lake yet, so the page shows no datasets")
    chosen = port or free_port(host)
    check_port(host, chosen)
    signal.signal(signal.SIGTERM, _interrupt)
    url = f"http://{host}:{chosen}"
    with running_webserver(host, chosen, project, read_only or project is None) as process:
        if invocation.json:
            invocation.write_json({"url": url, "project": None if project is None else str(project.file)})
        else:
            invocation.write_line(url)
        flush()
        invocation.message("Ctrl-C ends it")
        if browser:
            webbrowser.open(url)
        process.wait()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
