"""The command `lakefeed`: it finds the command to run, and turns errors into lines and exit codes."""

from __future__ import annotations

import io
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, TextIO

import click

from lakefeed import __version__, errors
from lakefeed.cli import commands, exit_codes
from lakefeed.cli.cell_text import escape_lines
from lakefeed.cli.invocation import ClosedPipeError, Invocation, flush
from lakefeed.cli.shared_options import shared_options

SUFFIX = "_command"
NOT_FOUND_ERRORS = (errors.DatasetNotFoundError, errors.VersionNotFoundError)

HINTS: dict[type[Exception], str] = {
    errors.DamagedDatasetError: "lakefeed doctor, which lists all damaged datasets; lakefeed rm NAME --force",
    errors.TagExistsError: "lakefeed tag REF TAG --move",
    errors.CatalogUnavailableError: "lakefeed config, which lists the settings",
    errors.ConfigError: "lakefeed doctor",
}
"""The commands to run after an error, whose message speaks of the SDK."""


class Commands(click.Group):
    """The group of all commands. A command is imported when it runs, and for the list of commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names of the commands."""
        return command_names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns a command, or None if it does not exist."""
        if cmd_name not in command_names():
            return None
        module = import_module(f"{commands.__name__}.{cmd_name}{SUFFIX}")
        command = getattr(module, f"{cmd_name}{SUFFIX}")
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Returns the command that the arguments name. The error of an unknown one suggests similar names."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(
                error.command_name, possibilities=self.list_commands(ctx), ctx=ctx
            ) from None

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Runs a command and exits."""
        arguments = sys.argv[1:] if args is None else list(args)
        extra.update(prog_name="lakefeed", obj=Invocation(arguments), standalone_mode=False)
        sys.exit(run_reporting(lambda: super(Commands, self).main(arguments, **extra), extra["obj"]))


def command_names() -> list[str]:
    """Returns the names of all commands, in alphabetical order."""
    return sorted(
        module.name.removesuffix(SUFFIX) for module in iter_modules(commands.__path__) if module.name.endswith(SUFFIX)
    )


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", message="lakefeed %(version)s")
def cli() -> None:
    """Look at and change the datasets of a lake.

    REF is a dataset and one of its versions: photos (the newest), photos@7, photos@stable (a tag) or
    photos@2026-11-01 (the newest at the end of that day).
    """


cli.params += shared_options()


def run_reporting(command: Callable[[], Any], invocation: Invocation) -> int:
    """Runs a command. Writes its error as one line, and returns the exit code."""
    try:
        code = command()
        flush()
    except ClosedPipeError:
        _discard_output()
        return exit_codes.DONE
    except click.exceptions.Abort:
        click.echo("lakefeed: interrupted", err=True)
        return exit_codes.INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the outermost frame: every error becomes a line
        return _report(error, invocation)
    return code if isinstance(code, int) else exit_codes.DONE


def _report(error: Exception, invocation: Invocation) -> int:
    if invocation.debug:
        traceback.print_exception(error)
    known = isinstance(error, errors.LakefeedError | OSError)
    text = str(error) or type(error).__name__
    message = text if known else f"unexpected {type(error).__name__}: {text} (--debug shows where)"
    click.echo(escape_lines(f"lakefeed: {message}"), err=True)
    hint = next((hint for kind, hint in HINTS.items() if isinstance(error, kind)), None)
    if hint is not None:
        click.echo(f"next: {hint}", err=True)
    return exit_codes.NOT_FOUND if isinstance(error, NOT_FOUND_ERRORS) else exit_codes.FAILED


def _discard_output() -> None:
    """Points standard output to nothing, so that the interpreter's last flush succeeds."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    click.echo(escape_lines(f"lakefeed: warning: {message}"), err=True)


def main() -> None:
    """Runs the command line of this process."""
    warnings.showwarning = _show_warning
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may lack characters
    cli.main()
