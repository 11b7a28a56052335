"""The code that this process runs: its script, notebook or command, and the commit of its repository.

The commit is read from the files of the repository, because a version that is written outside of a run must not wait
for another program.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_SOURCE_BYTES = 16 << 20
SHA1_CHARS, SHA256_CHARS = 40, 64
HEX = frozenset("0123456789abcdef")
MAX_REFS = 5
"""Symbolic references of a repository that are followed."""


@dataclass(frozen=True)
class RunningCode:
    """The code that this process runs.

    Attributes:
        kind: "script", "module", "notebook", "command" (of ``python -c``), "interactive", "program" (an installed or
            frozen one) or "function".
        name: the name of the file, module or function.
        path: the path of the file; None without a file.
        source: the source text; None if it is not known.
        commit: the git commit of the folder; None without a repository.
        dirty: whether files differ from the commit; None if that is not known.
    """

    kind: str
    name: str
    path: str | None = None
    source: bytes | None = None
    commit: str | None = None
    dirty: bool | None = None

    @functools.cached_property
    def sha256(self) -> str | None:
        """The SHA-256 of the source; None if the source is not known."""
        return None if self.source is None else hashlib.sha256(self.source).hexdigest()

    @property
    def text(self) -> str:
        """The code as one line, such as ``train.py sha256:1f…9c git:7d…02+dirty``."""
        digest = None if self.sha256 is None else f"sha256:{self.sha256}"
        commit = None if self.commit is None else f"git:{self.commit}{'+dirty' if self.dirty else ''}"
        return " ".join(part for part in (self.name, digest, commit) if part is not None)


def running_code() -> RunningCode:
    """Returns the code that this process runs. Looks at the files of a script once."""
    shell = _shell()
    if shell is not None:
        return _notebook(shell)
    return _script(getattr(sys.modules.get("__main__"), "__file__", None))


def code_outside_runs() -> str | None:
    """Returns the code for a version that is written outside of a run; None for interactive and installed programs."""
    code = running_code()
    return code.text if code.source is not None else None


@functools.lru_cache(maxsize=4)
def _script(file: str | None) -> RunningCode:
    if getattr(sys, "frozen", False):
        return RunningCode("program", Path(sys.executable).name, sys.executable)
    if file is None:
        return _command()
    path = Path(file).absolute()
    module = getattr(getattr(sys.modules.get("__main__"), "__spec__", None), "name", None)
    if _is_installed(path):
        return RunningCode("program", _program_name(path, module), str(path))
    script = module in (None, "__main__", "__mp_main__")
    kind, name = ("script", path.name) if script else ("module", str(module))
    return RunningCode(kind, name, str(path), _read(path), git_commit(path.parent))


def _program_name(path: Path, module: str | None) -> str:
    return path.name if module is None else module.removesuffix(".__main__")


def _command() -> RunningCode:
    arguments = list(getattr(sys, "orig_argv", ()))
    commit = git_commit(Path.cwd()) if _has_working_folder() else None
    if sys.argv[:1] == ["-c"] and "-c" in arguments[:-1]:
        command = arguments[arguments.index("-c") + 1]
        return RunningCode("command", "python -c", None, command.encode(errors="surrogateescape"), commit)
    return RunningCode("interactive", "python", None, None, commit)


def _notebook(shell: Any) -> RunningCode:
    space = getattr(shell, "user_ns", {})
    file = space.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME")
    cells = [str(cell) for cell in space.get("In", ()) if cell]
    path = Path(str(file)) if file else None
    folder = path.parent if path is not None and path.parent.is_dir() else None
    if folder is None and _has_working_folder():
        folder = Path.cwd()
    return RunningCode(
        "notebook",
        path.name if path is not None else "notebook",
        None if path is None else str(path),
        "\n\n".join(cells).encode(errors="surrogateescape"),
        None if folder is None else git_commit(folder),
    )


def _shell() -> Any:
    """Returns the shell of IPython; None outside of one. IPython is not imported."""
    ipython = sys.modules.get("IPython")
    get = getattr(ipython, "get_ipython", None)
    return None if get is None else get()


def _has_working_folder() -> bool:
    try:
        Path.cwd()
    except OSError:  # it was removed
        return False
    return True


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.stat().st_size <= MAX_SOURCE_BYTES else None
    except OSError:
        return None


def _is_installed(path: Path) -> bool:
    """Returns whether a file belongs to Python or to an installed package."""
    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib", "scripts")}
    folders.add(str(Path(sys.executable).parent))
    return any(folder and path.is_relative_to(folder) for folder in folders)


def git_commit(folder: Path) -> str | None:
    """Returns the git commit of a folder, without running git; None without a repository, or with unknown formats."""
    try:
        git = _git_folder(folder)
        return None if git is None else _resolve_head(git)
    except (OSError, UnicodeDecodeError):
        return None


def _git_folder(folder: Path) -> Path | None:
    for parent in (folder, *folder.parents):
        entry = parent / ".git"
        if entry.is_dir():
            return entry
        if entry.is_file():  # of a worktree or a submodule
            return parent / entry.read_text().strip().removeprefix("gitdir:").strip()
    return None


def _resolve_head(git: Path) -> str | None:
    shared = git / "commondir"
    folders = [git, git / shared.read_text().strip()] if shared.is_file() else [git]
    value = (git / "HEAD").read_text().strip()
    for _ in range(MAX_REFS):
        if not value.startswith("ref:"):
            break
        value = _read_ref(folders, value.removeprefix("ref:").strip())
    return value if len(value) in (SHA1_CHARS, SHA256_CHARS) and HEX.issuperset(value) else None


def _read_ref(folders: list[Path], name: str) -> str:
    for folder in folders:
        loose, packed = folder / name, folder / "packed-refs"
        if loose.is_file():
            return loose.read_text().strip()
        if packed.is_file():
            lines = (line.split(" ", 1) for line in packed.read_text().splitlines() if line[:1] not in ("#", "^"))
            known = {parts[1]: parts[0] for parts in lines if len(parts) > 1}
            if name in known:
                return known[name]
    return ""
