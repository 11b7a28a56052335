"""``lakefeed completion``: completion for a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from lakefeed.cli.invocation import Invocation, write
from lakefeed.cli.shared_options import lake_command


@lake_command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(invocation: Invocation, shell: str) -> None:
    """Print a script that completes commands, datasets, versions and tags.

    For bash: add the line 'eval "$(lakefeed completion bash)"' to ~/.bashrc.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    root = click.get_current_context().find_root().command
    script = kind(root, {}, "lakefeed", "_LAKEFEED_COMPLETE").source()
    if invocation.json:
        invocation.write_json({"script": script})
    else:
        write(script + "\n")
