"""The routines and ingestions that Python files and modules declare."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import click

from lakefeed import _paths, errors
from lakefeed._variables import did_you_mean
from lakefeed.ingest import Source
from lakefeed.routines import Routine, with_neighbours

Item = TypeVar("Item")
AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])
Named = TypeVar("Named", Routine, Source)


def file_option(function: AnyFunction) -> AnyFunction:
    """Adds ``--file``."""
    text = "A Python file, a folder of them, or a module that declares them; may be repeated."
    option = click.option(
        "-f", "--file", "files", multiple=True, required=True, metavar="FILE", type=click.Path(), help=text
    )
    return option(function)


@dataclass(frozen=True)
class DeclaredWork:
    """The declarations of files.

    Attributes:
        routines: the routines, in order of their declaration. Each knows the others that append to the same output.
        ingestions: the sources of ingestions.
        resources: the objects that routines request by name: the mappings ``resources`` of the files.
    """

    routines: Sequence[Routine] = ()
    ingestions: Sequence[Source] = ()
    resources: Mapping[str, Any] = field(default_factory=dict)


def load_work(files: Sequence[str]) -> DeclaredWork:
    """Returns the declarations of files or modules, which are imported.

    Raises:
        MissingFileError: a file does not exist.
        InvalidArgumentError: a file raises an error, or two declarations of one kind have the same name.
    """
    values: dict[int, Any] = {}
    resources: dict[str, Any] = {}
    for file in files:
        for module in _load_modules(file):
            values |= {id(value): value for value in vars(module).values()}  # a module may import those of another one
            named = getattr(module, "resources", None)
            resources |= named if isinstance(named, Mapping) else {}
    routines = [value for value in values.values() if isinstance(value, Routine)]
    ingestions = list({id(source): source for value in values.values() for source in _sources_of(value)}.values())
    _check_names("routine", [each.name for each in routines])
    _check_names("ingestion", [each.name for each in ingestions])
    return DeclaredWork(with_neighbours(routines), ingestions, resources)


def choose(declared: Sequence[Named], names: Sequence[str], kind: str) -> list[Named]:
    """Returns the declarations of these names; all of them for no names.

    Raises:
        click.BadParameter: a name is not declared; the message suggests others.
    """
    by_name = {each.name: each for each in declared}
    missing = [name for name in names if name not in by_name]
    if missing:
        hint = did_you_mean(missing, by_name) or f" The {kind}s are {errors.quoted_list(by_name)}."
        raise click.BadParameter(f"no {kind} {errors.quoted_list(missing)} is declared.{hint}", param_hint="NAME")
    return [by_name[name] for name in dict.fromkeys(names)] if names else list(declared)


def printing_aside(items: Iterable[Item]) -> Iterator[Item]:
    """Yields the items. What their code prints meanwhile goes to standard error, so that results stay complete."""
    remaining, end = iter(items), object()
    while True:
        with redirect_stdout(sys.stderr):
            item = next(remaining, end)
        if item is end:
            return
        yield item  # type: ignore[misc]  # not the end


def _sources_of(value: Any) -> Iterator[Source]:
    """Yields the source that a value is, or that it has as an attribute, as an ``Ingestion`` of a project does."""
    for each in (value, getattr(value, "source", None)):
        if isinstance(each, Source) and not isinstance(each, type):
            yield each


def _check_names(kind: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise errors.InvalidArgumentError(
            f"each {kind} is declared once; {errors.quoted_list(twice)} is declared several times"
        )


def _load_modules(location: str) -> Iterator[ModuleType]:
    path = Path(location)
    if _paths.is_folder(path):
        for file in sorted(path.glob("*.py")):
            yield _load(str(file), lambda file=file: _import_file(file))  # type: ignore[misc]  # the default is the file
    elif path.suffix == ".py" or _paths.is_file(path):
        if not _paths.is_file(path):
            raise errors.MissingFileError(f"{location!r} does not exist")
        yield _load(location, lambda: _import_file(path))
    elif all(part.isidentifier() for part in location.split(".")):
        yield _load(location, lambda: _import_name(location, Path.cwd()))
    else:
        raise errors.MissingFileError(f"{location!r} does not exist, and cannot name a module")


def _load(location: str, load: Callable[[], ModuleType]) -> ModuleType:
    try:
        with redirect_stdout(sys.stderr):
            return load()
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        inside = next((each for each in reversed(frames) if "importlib" not in each.filename), None)
        at = (
            f", line {inside.lineno} of {inside.filename}" if inside is not None and inside.filename != __file__ else ""
        )
        raise errors.InvalidArgumentError(
            f"{location!r} cannot be loaded: {type(error).__name__}: {error}{at}{_hint(error)}"
        ) from error


def _hint(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "dagster":
        return "; `from lakefeed.routines import routine`, and the sources of lakefeed.ingest, need no Dagster"
    return ""


def _import_file(path: Path) -> ModuleType:
    """Imports a file under the name that it has for others: with the packages in which it is."""
    folder, names = path.absolute().parent, [path.stem]
    while (folder / "__init__.py").exists() and folder.name.isidentifier():
        names.insert(0, folder.name)
        folder = folder.parent
    if len(names) > 1 and path.stem.isidentifier():
        return _import_name(".".join(names), folder)
    name = path.stem if path.stem.isidentifier() else f"declared_{abs(hash(path.stem))}"
    if name in sys.modules or name in sys.stdlib_module_names:
        present = getattr(sys.modules.get(name), "__file__", None)
        if present is not None and Path(present).absolute() == path.absolute():
            return sys.modules[name]
        name = f"declared_{name}"
    return _execute(name, path, folder)


def _execute(name: str, path: Path, folder: Path) -> ModuleType:
    _add_to_path(folder)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_name(name: str, folder: Path) -> ModuleType:
    _add_to_path(folder)
    return importlib.import_module(name)


def _add_to_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
