"""docs/cli.md describes every command and option, and its examples run as they stand."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from lakefeed.cli import invocation
from lakefeed.cli.command_groups import command_paths, load_command
from lakefeed.cli.main import cli

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
SECTION = re.compile(r"^### `lakefeed (?P<words>[a-z ]*[a-z])(?= [^a-z]|`)[^`]*`\n(?P<text>.*?)(?=^##|\Z)", re.M | re.S)
SECTIONS = {match["words"]: match for match in SECTION.finditer(PAGE.read_text("utf-8"))}
NAMES = [" ".join(path) for path in command_paths()]
CONSOLE = re.compile(r"^```console\n(.*?)^```", re.M | re.S)


def test_the_page_has_a_section_for_each_command() -> None:
    assert sorted(SECTIONS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_command_and_its_options_are_described(name: str) -> None:
    command = load_command(tuple(name.split()))
    assert command.help
    shared = {option for each in cli.params for option in each.opts}
    options = {option for each in command.params if isinstance(each, click.Option) for option in each.opts} - shared
    assert {option for option in options if f"`{option}" not in SECTIONS[name]["text"]} == set()
    assert [each for each in command.params if isinstance(each, click.Option) and not each.help] == []
    written = set(re.findall(r"`(--[a-z-]+)", SECTIONS[name]["text"]))
    assert written <= options | shared


def test_shared_options_are_described() -> None:
    page = PAGE.read_text("utf-8")
    assert [option for each in cli.params for option in each.opts if f"`{option}" not in page] == []


def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(invocation, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    for command, expected in _examples():
        output = _run(command)
        assert re.fullmatch(_pattern(expected), _plain(output)), f"$ {command}\n{output}"


def _examples() -> Iterator[tuple[str, str]]:
    """Yields each command of the page, and its output there."""
    for block in CONSOLE.findall(PAGE.read_text("utf-8")):
        for example in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, output = example.partition("\n")
            yield command, output


def _run(command: str) -> str:
    if not command.startswith("lakefeed "):
        return subprocess.run(["sh", "-c", command], check=True, capture_output=True, text=True).stdout
    result = CliRunner().invoke(cli, shlex.split(command)[1:])
    return result.output + (f"exit code {result.exit_code}\n" if result.exit_code else "")


def _plain(output: str) -> str:
    """Returns lines without the spaces that align columns."""
    return "\n".join(re.sub(" +", " ", line).strip() for line in output.strip().splitlines())


def _pattern(expected: str) -> str:
    """Returns a pattern of an output, in which an ellipsis stands for any text, and a line of it for any lines."""
    return re.sub("^…$", r"(?s:.*)", re.escape(_plain(expected)), flags=re.M).replace("…", ".*")
