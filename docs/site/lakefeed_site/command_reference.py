"""The reference of the command line, made from the commands themselves."""

from __future__ import annotations

import inspect

import click

from lakefeed.cli.command_groups import command_paths, load_command
from lakefeed.cli.main import cli

PAGE = "reference/commands.md"
INTRODUCTION = """\
Every command of `lakefeed`, as `lakefeed COMMAND --help` shows it. [The command line](../cli.md) explains references,
output and exit codes, with examples.
"""


def page_text() -> str:
    """Returns the page in Markdown: a section for each command, with its arguments and options."""
    root = click.Context(cli, info_name="lakefeed")
    shared = [option for option in cli.params if isinstance(option, click.Option)]
    lines = [
        "# Commands",
        "",
        INTRODUCTION,
        "",
        _prose(cli.help or ""),
        "",
        "## Options of every command",
        "",
        *_options(shared, root),
    ]
    for path in command_paths():
        lines += _section(load_command(path), " ".join(path), root, {flag for option in shared for flag in option.opts})
    return "\n".join(lines) + "\n"


def _section(command: click.Command, name: str, root: click.Context, shared: set[str]) -> list[str]:
    context = click.Context(command, info_name=name, parent=root)
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [
        f"## `lakefeed {name}`",
        "",
        "```text",
        f"lakefeed {name} {usage}",
        "```",
        "",
        _prose(command.help or ""),
        "",
    ]
    options = [each for each in command.params if isinstance(each, click.Option) and not shared & set(each.opts)]
    return lines + _options(options, context)


def _options(options: list[click.Option], context: click.Context) -> list[str]:
    records = [record for option in options if (record := option.get_help_record(context)) is not None]
    if not records:
        return []
    rows = [f"| `{flags}` | {_cell(text)} |" for flags, text in records]
    return ["| option | effect |", "|---|---|", *rows, ""]


def _cell(text: str) -> str:
    return " ".join(_escape(text).split()).replace("|", "\\|")


def _prose(text: str) -> str:
    """Returns help text as Markdown. A paragraph after the mark of click for verbatim text becomes a block."""
    paragraphs = []
    for paragraph in inspect.cleandoc(text.replace("\f", "")).split("\n\n"):
        if paragraph.startswith("\b"):
            paragraphs.append(f"```text\n{paragraph.removeprefix(chr(8)).strip(chr(10))}\n```")
        else:
            paragraphs.append(_escape(paragraph))
    return "\n\n".join(paragraphs)


def _escape(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")
