"""Commands and groups of commands, found by the names of their modules.

``tree_ls_command.py`` holds ``lakefeed tree ls``. Where ``cache_command.py`` exists beside ``cache_ls_command.py``, it
is what ``lakefeed cache`` does with an argument that names no command of the group.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import click
from click.shell_completion import CompletionItem

from lakefeed.cli import commands
from lakefeed.cli.shared_options import shared_options

SUFFIX = "_command"
CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

GROUPS = {
    "cache": "Keep versions on local disk, and look at those that are there.",
    "index": "Search keyed tables by words and vectors.",
    "ingest": "Append new files and rows of sources that a Python file declares.",
    "routine": "Run routines that a Python file declares, and look at what they have yet to read.",
    "table": "Look at and change keyed tables, whose rows are unique by key.",
    "tree": "Look at and make file trees: folders of files as versions.",
}
"""The groups, with their help."""

Path = tuple[str, ...]


@cache
def command_paths() -> tuple[Path, ...]:
    """Returns the words of each command, such as ``("tree", "ls")``, in alphabetical order."""
    names = (module.name for module in iter_modules(commands.__path__))
    return tuple(sorted(tuple(name.removesuffix(SUFFIX).split("_")) for name in names if name.endswith(SUFFIX)))


def load_command(path: Path) -> click.Command:
    """Returns the command of these words. Its module is imported."""
    name = f"{'_'.join(path)}{SUFFIX}"
    command = getattr(import_module(f"{commands.__name__}.{name}"), name)
    assert isinstance(command, click.Command)
    return command


class CommandGroup(click.Group):
    """A group of commands, each of which is imported when it runs, and for the list of commands.

    Args:
        path: the words of the group; none for ``lakefeed`` itself.
    """

    def __init__(self, *args: Any, path: Path = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.path = path

    @property
    def default(self) -> click.Command | None:
        """The command that runs where no command of the group is named."""
        return load_command(self.path) if self.path in command_paths() else None

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names of the commands."""
        depth = len(self.path)
        return sorted({path[depth] for path in command_paths() if len(path) > depth and path[:depth] == self.path})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns a command or a group, or None if it does not exist."""
        if cmd_name not in self.list_commands(ctx):
            return None
        path = (*self.path, cmd_name)
        return _group(path) if path[0] in GROUPS and not self.path else load_command(path)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Returns the command that the arguments name. The error of an unknown one suggests similar names."""
        if self.path in command_paths() and args[0] not in self.list_commands(ctx):
            return None, self.default, args
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(
                error.command_name, possibilities=self.list_commands(ctx), ctx=ctx
            ) from None

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the help: that of the command without a name, if there is one, and the list of commands."""
        if self.default is None:
            super().format_help(ctx, formatter)
            return
        self.default.format_help(ctx, formatter)
        self.format_commands(ctx, formatter)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Returns the commands, and the arguments of the command without a name, that begin with the text."""
        offers = super().shell_complete(ctx, incomplete)
        parameters = [] if self.default is None else self.default.params
        arguments = [each for each in parameters if isinstance(each, click.Argument)][:1]
        return offers + [offer for argument in arguments for offer in argument.shell_complete(ctx, incomplete)]


def _group(path: Path) -> CommandGroup:
    name = path[-1]
    context = dict(CONTEXT, ignore_unknown_options=True) if path in command_paths() else CONTEXT
    return CommandGroup(name, path=path, help=GROUPS[name], params=shared_options(), context_settings=context)
