"""The Dagster project in the current folder, which ``lakefeed ui`` serves."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lakefeed import errors

WORKSPACE = "workspace.yaml"
PROJECT = "pyproject.toml"


@dataclass(frozen=True)
class UiProject:
    """A Dagster project.

    Attributes:
        folder: its folder.
        file: the file that makes the folder a project.
        arguments: the arguments of Dagster that name its definitions.
    """

    folder: Path
    file: Path
    arguments: tuple[str, ...]


def find_project(folder: Path) -> UiProject | None:
    """Returns the project in a folder: a ``workspace.yaml``, or a ``pyproject.toml`` that names definitions.

    Raises:
        ConfigError: the file cannot be read as TOML.
    """
    workspace = folder / WORKSPACE
    if workspace.is_file():
        return UiProject(folder, workspace, ("-w", str(workspace)))
    file = folder / PROJECT
    if not file.is_file():
        return None
    try:
        tool = tomllib.loads(file.read_text("utf-8")).get("tool", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise errors.ConfigError(f"{str(file)!r} cannot be read as TOML: {error}") from None
    arguments = _definitions_of(folder, tool) if isinstance(tool, dict) else None
    return None if arguments is None else UiProject(folder, file, arguments)


def _definitions_of(folder: Path, tool: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Returns the arguments for the definitions that tables of ``pyproject.toml`` name; None if they name none."""
    if tool.get("dagster"):
        return ()  # Dagster reads this table itself
    project = tool.get("dg", {}).get("project", {})
    root = project.get("root_module")
    module = project.get("code_location_target_module") or (f"{root}.definitions" if root else None)
    if module is None:
        return None
    source = folder / "src"
    nested = (source / module.partition(".")[0]).exists()
    return "-m", str(module), "-d", str(source if nested else folder)
