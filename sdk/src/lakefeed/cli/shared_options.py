"""The options that every command has."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from lakefeed.cli.invocation import Invocation

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


def _set(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        invocation = ctx.ensure_object(Invocation)
        name = str(param.name)
        setattr(invocation, name, name != "header")
        if name == "quiet":
            set_variable(ctx, "TQDM_DISABLE", "1")


def _set_home(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None:
        for name in ("LAKEFEED_HOME", "LAKEFEED__HOME"):  # where lakefeed.toml is, and above what it says
            set_variable(ctx, name, value)


def set_variable(ctx: click.Context, name: str, value: str) -> None:
    """Sets an environment variable until the command has run."""
    before = os.environ.get(name)
    os.environ[name] = value

    def restore() -> None:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before

    ctx.find_root().call_on_close(restore)


def shared_options() -> list[click.Parameter]:
    """Returns the options that every command has."""
    flag: dict[str, Any] = {"expose_value": False, "callback": _set, "is_flag": True}
    return [
        click.Option(["--json"], help="Write one JSON document.", **flag),
        click.Option(["-q", "--quiet"], help="Write no messages and show no progress.", **flag),
        click.Option(["--no-header", "header"], help="Leave the names of columns out of a pipe.", **flag),
        click.Option(
            ["--home"],
            metavar="FOLDER",
            help="The lake's folder, instead of $LAKEFEED_HOME.",
            expose_value=False,
            callback=_set_home,
            is_eager=True,
        ),
        click.Option(["--debug"], help="Show the traceback of an error.", **flag),
    ]


def lake_command(*args: Any, **kwargs: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Returns a decorator that makes a command of a function. It has the shared options."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        @wraps(function)
        def run(invocation: Invocation, *values: Any, **options: Any) -> Any:
            result = function(invocation, *values, **options)
            invocation.finish()
            return result

        command: click.Command = click.command(*args, **kwargs)(click.pass_obj(run))
        command.params += shared_options()
        return command

    return decorate


def dry_run_option(function: AnyFunction) -> AnyFunction:
    """Adds ``--dry-run``."""
    return click.option("-n", "--dry-run", is_flag=True, help="Only say what would be changed.")(function)


def change_options(function: AnyFunction) -> AnyFunction:
    """Adds ``--dry-run`` and ``--yes``."""
    asked = click.option("-y", "--yes", is_flag=True, help="Do not ask.")(function)
    return dry_run_option(asked)
