"""The code and the environment of a run: what `lakefeed.catalog.running_code` knows, and what git and Python tell."""

from __future__ import annotations

import inspect
import logging
import os
import platform
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from lakefeed.catalog.running_code import RunningCode, git_commit, running_code
from lakefeed.errors import InvalidArgumentError
from lakefeed.storage.urls import redact

logger = logging.getLogger(__name__)

GIT_SECONDS: Final = 5.0
MAX_ARGUMENTS: Final = 200
MAX_ARGUMENT_CHARS: Final = 1_000
SECRET = re.compile(r"^-+[\w-]*(password|passwd|secret|token|api-?_?key|credential)s?(=|$)", re.IGNORECASE)
METADATA_FOLDER = re.compile(r"(?P<name>[A-Za-z0-9_.]+)-(?P<version>[^-]+?)(-py[\d.]+)?\.(dist|egg)-info")


def capture_code(transform: str | Callable[..., Any] | None = None) -> RunningCode:
    """Returns the code of a run, with the state of its repository.

    Args:
        transform: the name of the code, or the function that is the code; None for the script of this process.

    Raises:
        InvalidArgumentError: ``transform`` is neither.
    """
    named: object = transform
    if named is None or isinstance(named, str):
        if named == "":
            raise InvalidArgumentError("transform='': give the name of the code, its function, or None")
        code = running_code()
        code = code if named is None else replace(code, name=str(named))
    elif callable(named):
        code = _function(named)
    else:
        raise InvalidArgumentError(f"transform must be a name, a function or None, got {transform!r:.80}")
    folder = _folder(code)
    if code.commit is None or folder is None:
        return code
    commit, dirty = git_state(folder)
    return replace(code, commit=commit or code.commit, dirty=dirty)


def _function(function: Callable[..., Any]) -> RunningCode:
    plain = inspect.unwrap(function)
    while hasattr(plain, "func"):  # of functools.partial
        plain = plain.func
    name = f"{getattr(plain, '__module__', None) or '?'}.{getattr(plain, '__qualname__', type(plain).__qualname__)}"
    target = plain if inspect.isroutine(plain) or inspect.isclass(plain) else type(plain)
    source: bytes | None = None
    file: str | None = None
    try:
        source = textwrap.dedent(inspect.getsource(target)).encode(errors="surrogateescape")
        file = inspect.getsourcefile(target)
    except (OSError, TypeError):  # made by exec, or written in C
        logger.debug("the source of %s is not known", name)
    path = Path(file) if file is not None and Path(file).is_file() else None
    commit = None if path is None else git_commit(path.absolute().parent)
    return RunningCode("function", name, None if path is None else str(path.absolute()), source, commit)


def _folder(code: RunningCode) -> Path | None:
    folder = Path(code.path).parent if code.path else Path()
    return folder if folder.is_dir() else None


def git_state(folder: Path) -> tuple[str | None, bool | None]:
    """Returns the commit of a folder, and whether tracked files differ from it; None for what git does not tell."""
    command = ["git", "-C", str(folder), "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, timeout=GIT_SECONDS, env=environment, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None, None
    if done.returncode:
        return None, None
    lines = done.stdout.decode(errors="replace").splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid")), None)
    return None if commit == "(initial)" else commit, any(not line.startswith("#") for line in lines)


def environment() -> dict[str, Any]:
    """Returns the version of Python, the platform, and the versions of the installed packages."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": dict(sorted(_packages())),
    }


def _packages() -> Iterator[tuple[str, str]]:
    """Yields the packages, by the names of the folders of their metadata: to read all metadata takes much longer."""
    for folder in dict.fromkeys(sys.path):
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208 - a Path for each of a thousand names takes longer
        except OSError:
            continue
        for name in names:
            match = METADATA_FOLDER.fullmatch(name)
            if match is not None:
                yield match["name"].lower().replace("_", "-"), match["version"]


def arguments(argv: Sequence[str]) -> list[str]:
    """Returns the arguments of the program without secrets, as far as names and URLs tell."""
    shown: list[str] = []
    hidden = False
    for argument in argv[:MAX_ARGUMENTS]:
        text = argument.encode(errors="replace").decode()[:MAX_ARGUMENT_CHARS]
        match = SECRET.match(text)
        if hidden and not text.startswith("-"):
            shown.append("***")
        elif match is not None and match[2] == "=":
            shown.append(f"{match[0]}***")
        else:
            shown.append(redact(text))
        hidden = match is not None and match[2] == ""
    return shown


def refresh_notebook(code: RunningCode) -> RunningCode:
    """Returns the code of a notebook with the cells that have run by now."""
    now = running_code()
    return replace(code, source=now.source) if now.kind == "notebook" else code
