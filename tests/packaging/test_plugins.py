"""Parts of other packages: a package with entry points is installed, and used by name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from lakefeed import Dataset, _plugins
from lakefeed._plugins import Plugins
from lakefeed.errors import InvalidArgumentError, PluginError, TypeMismatchError

PLUGIN = Path(__file__).parent / "plugin"

USE = """
import logging, pathlib, sys
import pytest
from lakefeed import Dataset
from lakefeed.diagnosis import diagnose
from lakefeed.errors import FormatError, InvalidArgumentError, PluginError
from lakefeed.formats import FORMATS, Csv

warnings = []
class Warnings(logging.Handler):
    def emit(self, record):
        warnings.append(record.getMessage())
logging.getLogger("lakefeed").addHandler(Warnings())

Dataset.from_dict({"number": [1]}).save("numbers")
assert not any(name.startswith("lakefeed_plugin") for name in sys.modules), "a package is imported when it is used"

pathlib.Path("a.words").write_text("one two three")
pathlib.Path("a.srt").write_text("1")
words = Dataset.from_file("a.words")
assert words.to_arrow()["word"].to_pylist() == ["one", "two", "three"]
assert Dataset.from_file("a.srt", format="words").count() == 1
assert isinstance(FORMATS["csv"], Csv)
assert any("'csv'" in text and "lakefeed-plugin-example" in text for text in warnings)
with pytest.raises(PluginError, match="lakefeed-plugin-example.*No module named"):
    Dataset.from_file("a.words", format="broken")
with pytest.raises(FormatError, match="words"):
    Dataset.from_file("a.unknown")
assert sum("broken" in text for text in warnings) == 1

assert words.pipe("longest", "word", 5).to_arrow()["word"].to_pylist() == ["three"]
rows = Dataset.from_dict({"x": [1, None, 3], "file": ["a.srt"] * 3})
assert rows.pipe("drop_nulls", ("x",)).count() == 2
with pytest.raises(InvalidArgumentError, match="drop_nulls"):
    rows.pipe("drop_null")
saved = rows.save("files")
assert saved.column_types == {"file": "subtitles"}
assert type(next(iter(saved.rows()))["file"]).__name__ == "Subtitles"
assert Dataset.from_source("range", 2_500).shuffle(seed=1).filter("x < 10").count() == 10
findings = [each for each in diagnose() if each.subject == "plug-ins"]
assert all("lakefeed-plugin-example" in each.text for each in findings) and len(findings) == 6
assert ["broken" in each.text for each in findings] == [not each.passed for each in findings]
"""


@pytest.mark.live
def test_an_installed_package_adds_its_parts(tmp_path: Path) -> None:
    source = shutil.copytree(PLUGIN, tmp_path / "source")
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run([sys.executable, "-c", USE], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_bad_plugins_harm_only_who_asks_for_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    declared = [("twice", "json:loads"), ("twice", "json:dumps"), ("absent", "no_such_module:x"), ("number", "math:pi"),
                ("good", "json:loads"), ("own", "json:loads")]  # fmt: skip
    monkeypatch.setattr(
        _plugins, "entry_points", lambda group: [EntryPoint(name, value, group) for name, value in declared]
    )

    def callable_only(name: str, part: object) -> object:
        if not callable(part):
            raise TypeError("not callable")
        return part

    plugins = Plugins("operations", {"own": len}, callable_only)
    assert list(plugins) == ["own", "twice", "absent", "number", "good"]
    assert plugins["own"] is len
    for name, message in [("twice", "uninstall all but one"), ("absent", "no_such_module"), ("number", "not callable")]:
        with pytest.raises(PluginError, match=message):
            plugins[name]
    assert "elsewhere" not in plugins
    with pytest.raises(KeyError):
        plugins["elsewhere"]
    assert [name for _ in range(2) for name, _ in plugins.usable()] == ["own", "good"] * 2
    assert len(caplog.records) == 4  # one for each that cannot be used, and one for the name that lakefeed has itself


def test_functions_and_sources_without_a_package() -> None:
    rows = Dataset.from_dict({"x": [1, 2, 3]})
    assert rows.pipe(lambda data, least: data.filter(f"x >= {least}"), 2).count() == 2
    with pytest.raises(TypeMismatchError, match="must return a Dataset, got int"):
        rows.pipe(Dataset.count)
    with pytest.raises(TypeMismatchError, match="takes a function"):
        rows.pipe(3)  # type: ignore[arg-type]
    with pytest.raises(TypeMismatchError, match="takes a Source"):
        Dataset.from_source(rows)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="no installed package declares source 'nowhere'"):
        Dataset.from_source("nowhere")
