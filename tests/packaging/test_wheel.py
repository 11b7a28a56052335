"""The wheel of the SDK holds the modules that the source has, whatever was built before."""

from __future__ import annotations

import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import lakefeed

ROOT = Path(__file__).parents[2]
BUILD = "import build_backend, sys; print(build_backend.build_wheel(sys.argv[1]))"


def test_a_module_that_was_deleted_is_not_in_the_next_wheel(tmp_path: Path) -> None:
    source = tmp_path / "sdk"
    source.mkdir()
    for name in ("pyproject.toml", "build_backend.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / "sdk" / name, source)
    package = source / "src" / "lakefeed"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('__version__ = "1.2.3"')
    (package / "py.typed").touch()
    (package / "gone.py").touch()
    stale = source / "build" / "lib" / "lakefeed"
    stale.mkdir(parents=True)
    (stale / "older.py").touch()
    assert wheel(source, tmp_path / "first") >= {"lakefeed/__init__.py", "lakefeed/gone.py", "lakefeed/py.typed"}
    (package / "gone.py").unlink()
    names = wheel(source, tmp_path / "second")
    assert not names & {"lakefeed/gone.py", "lakefeed/older.py"}
    assert {"lakefeed-1.2.3.dist-info/licenses/LICENSE", "lakefeed-1.2.3.dist-info/entry_points.txt"} <= names
    (built,) = (tmp_path / "second").glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        metadata = message_from_bytes(archive.read("lakefeed-1.2.3.dist-info/METADATA"))
    assert (metadata["Version"], metadata["License-Expression"], metadata["Requires-Python"]) == (
        "1.2.3", "Apache-2.0", ">=3.11",
    )  # fmt: skip
    assert metadata.get_payload().startswith("# lakefeed")
    assert metadata["Name"] == "lakefeed"
    assert metadata["Summary"]
    assert {"Programming Language :: Python :: 3.11", "Typing :: Typed"} <= set(metadata.get_all("Classifier"))
    # There is no address: none is invented, in no spelling that metadata has for one.
    assert [metadata[each] for each in ("Project-URL", "Home-page", "Download-URL", "Author-email")] == [None] * 4
    assert set(metadata.get_all("Provides-Extra")) - {"all"} == set(
        re.findall(r"\w+", next(text for text in metadata.get_all("Requires-Dist") if "extra == \"all\"" in text)
        .partition("[")[2].partition("]")[0])
    )  # fmt: skip
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


def test_the_page_of_the_package_names_every_extra() -> None:
    project = tomllib.loads((ROOT / "sdk" / "pyproject.toml").read_text("utf-8"))["project"]
    page = (ROOT / "sdk" / "README.md").read_text("utf-8")
    assert [extra for extra in project["optional-dependencies"] if f"`{extra}`" not in page] == []


def test_the_changelog_begins_with_what_is_unreleased_and_has_the_version_of_the_package() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    versions = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d{2}-\d{2}))?$", text, re.M)
    assert versions[0] == ("Unreleased", "")
    assert dict(versions[1:])[lakefeed.__version__]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == lakefeed.__version__
