"""Loads the declarations, each apart from the others: one that is broken does not stop the project."""

from __future__ import annotations

import importlib
import pkgutil
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TypeAlias, TypeVar

import dataset_assets.defs
from dataset_assets.broken_declaration import BrokenDeclaration
from dataset_assets.dataset import DatasetSpec
from dataset_assets.index import IndexSpec
from dataset_assets.ingestion import FolderIngestion, Ingestion
from lakefeed.routines import Routine

Declaration: TypeAlias = DatasetSpec | FolderIngestion | IndexSpec | Ingestion | Routine
Loaded = TypeVar("Loaded")


def load_declarations() -> Iterator[Declaration | BrokenDeclaration]:
    """Yields the declarations of the modules in ``dataset_assets/defs``, ordered by module name.

    A module that raises an error is yielded as a broken declaration.
    """
    collected: set[int] = set()
    for module in sorted(pkgutil.iter_modules(dataset_assets.defs.__path__), key=lambda module: module.name):
        loaded = _import_module(module)
        if isinstance(loaded, BrokenDeclaration):
            yield loaded
            continue
        for value in vars(loaded).values():
            # A module may import a declaration of another one, or give it two names.
            if isinstance(value, Declaration) and id(value) not in collected:
                collected.add(id(value))
                yield value


def split_loadable(
    declarations: Sequence[Declaration], load: Callable[[Sequence[Declaration], Sequence[BrokenDeclaration]], Loaded]
) -> tuple[Loaded, list[BrokenDeclaration]]:
    """Returns what ``load`` makes of the declarations that load together, and the others.

    Of two declarations that contradict each other, the later one is broken.

    Args:
        declarations: the declarations.
        load: makes something of the sound and of the broken declarations, or raises.
    """
    sound, broken = list(declarations), list[BrokenDeclaration]()
    while True:
        loaded = _attempt(sound, broken, load)
        if not isinstance(loaded, Exception):
            return loaded, broken
        if not sound:
            raise loaded
        # The shortest list that does not load ends with a broken declaration.
        lengths = range(1, len(sound) + 1)
        at = bisect_left(
            lengths, True, key=lambda length: isinstance(_attempt(sound[:length], broken, load), Exception)
        )
        error = _attempt(sound[: at + 1], broken, load)
        broken.append(_broken(sound.pop(at), error if isinstance(error, Exception) else loaded))


def _import_module(module: pkgutil.ModuleInfo) -> ModuleType | BrokenDeclaration:
    try:
        return importlib.import_module(f"{dataset_assets.defs.__name__}.{module.name}")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - code of users may raise anything
        folder = Path(getattr(module.module_finder, "path", ""))
        file = folder / module.name / "__init__.py" if module.ispkg else folder / f"{module.name}.py"
        return BrokenDeclaration.of_file(file, error)


def _attempt(
    sound: Sequence[Declaration],
    broken: Sequence[BrokenDeclaration],
    load: Callable[[Sequence[Declaration], Sequence[BrokenDeclaration]], Loaded],
) -> Loaded | Exception:
    """Returns what ``load`` makes of the declarations, or the error that it raises."""
    try:
        return load(sound, broken)
    except Exception as error:  # noqa: BLE001 - Dagster raises many kinds of errors for wrong definitions
        return error


def _broken(declared: Declaration, error: Exception) -> BrokenDeclaration:
    kind = {Routine: "routine", IndexSpec: "index"}.get(type(declared), "ingestion")
    if isinstance(declared, DatasetSpec):
        return BrokenDeclaration.of_declaration("dataset", declared.name, error, declared.name)
    # An ingestion without a source has no name.
    return BrokenDeclaration.of_declaration(kind, str(getattr(declared, "name", "unnamed")), error)
