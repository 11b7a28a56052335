"""``lakefeed ui``: the datasets of the lake in Dagster's UI."""

from __future__ import annotations

import signal
import webbrowser
from types import FrameType

import click

from lakefeed.cli.invocation import Invocation, flush
from lakefeed.cli.references import lake_exists
from lakefeed.cli.shared_options import lake_command
from lakefeed.cli.ui_home import check_port, free_port, require_webserver, running_webserver


@lake_command("ui")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="HOST", help="The address to listen to.")
@click.option("-p", "--port", type=click.IntRange(0, 65_535), default=3000, show_default=True, help="0: a free one.")
@click.option("--browser", is_flag=True, help="Open the page in a browser.")
def ui_command(invocation: Invocation, host: str, port: int, browser: bool) -> None:
    """Show the datasets of the lake in Dagster's UI, until Ctrl-C.

    It shows columns, versions, tags and lineage, and changes nothing. It needs Dagster's webserver.
    """
    require_webserver()
    if not lake_exists():
        invocation.message("lakefeed: there is no lake yet, so the page shows no datasets")
    chosen = port or free_port(host)
    check_port(host, chosen)
    signal.signal(signal.SIGTERM, _interrupt)
    url = f"http://{host}:{chosen}"
    with running_webserver(host, chosen) as process:
        if invocation.json:
            invocation.write_json({"url": url})
        else:
            invocation.write_line(url)
        flush()
        invocation.message("Ctrl-C ends it")
        if browser:
            webbrowser.open(url)
        process.wait()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
