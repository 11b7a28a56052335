"""The wheel of the SDK holds the modules that the source has, whatever was built before."""

from __future__ import annotations

import pkgutil
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = "import build_backend, sys; print(build_backend.build_wheel(sys.argv[1]))"


def test_a_module_that_was_deleted_is_not_in_the_next_wheel(tmp_path: Path) -> None:
    source = tmp_path / "sdk"
    source.mkdir()
    for name in ("pyproject.toml", "build_backend.py"):
        shutil.copy(ROOT / "sdk" / name, source)
    package = source / "src" / "lakefeed"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "py.typed").touch()
    (package / "gone.py").touch()
    stale = source / "build" / "lib" / "lakefeed"
    stale.mkdir(parents=True)
    (stale / "older.py").touch()
    assert wheel(source, tmp_path / "first") >= {"lakefeed/__init__.py", "lakefeed/gone.py", "lakefeed/py.typed"}
    (package / "gone.py").unlink()
    names = wheel(source, tmp_path / "second")
    assert not names & {"lakefeed/gone.py", "lakefeed/older.py"}
    assert (stale / "older.py").exists()


def test_the_script_of_the_sdk_exists() -> None:
    scripts = tomllib.loads((ROOT / "sdk" / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    assert {name: pkgutil.resolve_name(target).__name__ for name, target in scripts.items()} == {"lakefeed": "main"}


def wheel(source: Path, into: Path) -> set[str]:
    into.mkdir()
    subprocess.run([sys.executable, "-c", BUILD, str(into)], cwd=source, check=True, capture_output=True)
    (found,) = into.glob("*.whl")
    with zipfile.ZipFile(found) as archive:
        return set(archive.namelist())
