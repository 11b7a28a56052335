"""What the processes do that tests of file trees kill. Light to import: each of them is a process of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from lakefeed.trees import FileTree

BEFORE, AFTER = "before", "after"
Step = tuple[str, str]
"""A function, and whether the process is killed before or after it."""


def kill_at(step: Step) -> None:
    """Makes this process kill itself at a step."""
    (module, _, path), when = step[0].partition(":"), step[1]
    *outer, name = path.split(".")
    owner: Any = import_module(module)
    for each in outer:
        owner = getattr(owner, each)
    real: Callable[..., Any] = getattr(owner, name)

    def killing(*args: Any, **kwargs: Any) -> Any:
        if when == AFTER:
            real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, killing)


def run(action: str, *arguments: str) -> None:
    """Does a part of the work with a tree."""
    if action == "create":
        FileTree.create("photos", "animals")
        return
    tree = FileTree.get(arguments[0])
    if action == "upload":
        tree.sync_folder(arguments[1])
        tree.upload(show_progress=False)
    elif action == "finalize":
        tree.finalize()
    elif action == "copy":
        tree.get_local_copy()
    elif action == "copy_to":
        tree.get_mutable_local_copy(arguments[1], overwrite=True)
    else:
        assert action in ("delete", "delete_all")
        FileTree.delete(tree.id if action == "delete" else None, *(("animals", "photos") if action != "delete" else ()),
                        entire_dataset=action == "delete_all")  # fmt: skip


def killed_run(cache: str, step: Step, action: str, *arguments: str) -> None:
    os.environ["LAKEFEED_CACHE_DIR"] = cache
    kill_at(step)
    run(action, *arguments)


def finalize_all(folder: str, name: str, count: int) -> None:
    """Makes versions of one name, one after the other."""
    for number in range(count):
        tree = FileTree.create(name, "animals")
        work = Path(folder) / f"{os.getpid()}-{number}"
        work.mkdir(parents=True)
        (work / "pid").write_text(str(os.getpid()))
        (work / "n").write_text(str(number))
        tree.sync_folder(work)
        tree.upload(show_progress=False)
        tree.finalize()
