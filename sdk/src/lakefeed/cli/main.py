"""The command `lakefeed`: it finds the command to run, and turns errors into lines and exit codes."""

from __future__ import annotations

import atexit
import io
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, TextIO

import click

from lakefeed import __version__, errors
from lakefeed.cli import exit_codes
from lakefeed.cli.cell_text import escape_lines
from lakefeed.cli.command_groups import CONTEXT, CommandGroup
from lakefeed.cli.invocation import ClosedPipeError, Invocation, flush
from lakefeed.cli.shared_options import shared_options

COMPLETION_VARIABLE = "_LAKEFEED_COMPLETE"
"""A shell sets it to ask for completions."""

NOT_FOUND_ERRORS = (errors.DatasetNotFoundError, errors.VersionNotFoundError)

HINTS: dict[type[Exception], str] = {
    errors.DamagedDatasetError: "lakefeed doctor, which lists all damaged datasets; lakefeed rm NAME --force",
    errors.TagExistsError: "lakefeed tag REF TAG --move",
    errors.CatalogUnavailableError: "lakefeed config, which lists the settings",
    errors.ConfigError: "lakefeed doctor",
}
"""The commands to run after an error, whose message speaks of the SDK."""


class Commands(CommandGroup):
    """The command `lakefeed`."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Runs a command and exits."""
        arguments = sys.argv[1:] if args is None else list(args)
        extra.update(prog_name="lakefeed", obj=Invocation(arguments), standalone_mode=False)
        sys.exit(run_reporting(lambda: super(Commands, self).main(arguments, **extra), extra["obj"]))


@click.group(cls=Commands, context_settings=CONTEXT)
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
    if COMPLETION_VARIABLE in os.environ:
        return exit_codes.FAILED  # a message would break the line that is being typed
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


def _nowhere() -> TextIO:
    """Returns a stream that discards text, in place of one that was closed before the process began."""
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - it is open until the process ends


def _terminate(number: int, frame: FrameType | None) -> None:
    """Ends the command as an interrupt does, so that it removes what is unfinished."""
    raise SystemExit(exit_codes.SIGNAL + number)


def main() -> None:
    """Runs the command line of this process."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)
    warnings.showwarning = _show_warning
    sys.stdout, sys.stderr = (stream or _nowhere() for stream in (sys.stdout, sys.stderr))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may lack characters
    try:
        cli.main()
    except SystemExit as end:
        if end.code != exit_codes.INTERRUPTED:
            raise
        # An interpreter that an interrupt has reached inside an import may end itself by the signal, without the code.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_codes.INTERRUPTED)
