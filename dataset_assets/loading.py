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
from dataset_assets.ingestion import FolderIngestion, Ingestion
from lakefeed.routines import Routine

Declaration: TypeAlias = DatasetSpec | FolderIngestion | Ingestion | Routine
Loaded = TypeVar("Loaded")


def load_declarations() -> Iterator[Declaration | BrokenDeclaration]:
    """Yields the declarations of the modules in ``dataset_assets/defs``, ordered by module name.

    A module that raises an error is yielded as a broken declaration.
    """
    seen: set[int] = set()
    for module in sorted(pkgutil.iter_modules(dataset_assets.defs.__path__), key=lambda module: module.name):
        loaded = _import_module(module)
        if isinstance(loaded, BrokenDeclaration):
            yield loaded
            continue
        for value in vars(loaded).values():
            # A module may import a declaration of another one, or give it two names.
            if isinstance(value, Declaration) and id(value) not in seen:
                seen.add(id(value))
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
        error = _load_error(sound, broken, load)
        if error is None:
            return load(sound, broken), broken
        if not sound:
            raise error
        # The shortest list that does not load ends with a broken declaration.
        lengths = range(1, len(sound) + 1)
        at = bisect_left(lengths, True, key=lambda length: _load_error(sound[:length], broken, load) is not None)
        error = _load_error(sound[: at + 1], broken, load) or error
        broken.append(_broken(sound.pop(at), error))


def _import_module(module: pkgutil.ModuleInfo) -> ModuleType | BrokenDeclaration:
    try:
        return importlib.import_module(f"{dataset_assets.defs.__name__}.{module.name}")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - code of users may raise anything
        folder = Path(getattr(module.module_finder, "path", ""))
        file = folder / module.name / "__init__.py" if module.ispkg else folder / f"{module.name}.py"
        return BrokenDeclaration.of_file(file, error)


def _load_error(
    sound: Sequence[Declaration],
    broken: Sequence[BrokenDeclaration],
    load: Callable[[Sequence[Declaration], Sequence[BrokenDeclaration]], object],
) -> Exception | None:
    try:
        load(sound, broken)
    except Exception as error:  # noqa: BLE001 - Dagster raises many kinds of errors for wrong definitions
        return error
    return None


def _broken(declared: Declaration, error: Exception) -> BrokenDeclaration:
    if isinstance(declared, DatasetSpec):
        return BrokenDeclaration.of_declaration("dataset", declared.name, error, declared.name)
    kind = "routine" if isinstance(declared, Routine) else "ingestion"
    return BrokenDeclaration.of_declaration(kind, declared.name, error)
