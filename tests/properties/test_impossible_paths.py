"""Paths at which nothing can be, wherever a path is given: typed errors that name them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lakefeed
from lakefeed import Dataset, Settings, _paths, ingest, registry
from lakefeed.errors import ConfigError, FileError, InvalidArgumentError, LakefeedError, MissingFileError

LONG = "long" * 100
REASONS = {
    LONG: "File name too long",
    f"{LONG}/below": "File name too long",
    "/".join(["deep" * 50] * 30): "File name too long",
    "loop": "Too many levels of symbolic links",
    "loop/below": "Too many levels of symbolic links",
    "file/below": "Not a directory",
    "nul\0byte": "null",
    "half\ud800pair": "surrogate",
}
"""Paths, and the reason why nothing can be there."""
NOT_STORABLE = ("nul\0byte", "half\ud800pair")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


def error_of(call: Callable[[], object]) -> LakefeedError:
    with pytest.raises(LakefeedError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("setting", ["home", "cache_dir", "catalog.warehouse", "blobs.url"])
def test_folders_of_settings(setting: str) -> None:
    for path, reason in REASONS.items():
        error = error_of(lambda path=path: Settings.load(**{setting: path}))  # type: ignore[misc]  # the default is the path
        assert isinstance(error, ConfigError)
        assert reason in str(error)
        assert setting in str(error)
    assert Settings.load(**{setting: "not/there/yet"})


@pytest.mark.parametrize("name", ["LAKEFEED_HOME", "LAKEFEED_CACHE_DIR", "LAKEFEED_CONFIG"])
def test_folders_of_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in set(REASONS) - set(NOT_STORABLE):  # which the environment cannot hold
        monkeypatch.setenv(name, path)
        assert isinstance(error_of(lakefeed.list_datasets), ConfigError)


def test_files_of_databases(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (LONG, "loop", "file/below"):
        monkeypatch.setenv("LAKEFEED__CATALOG__URI", f"sqlite:///{path}")
        assert path in str(error_of(lambda: Dataset.from_dict({"a": [1]}).save("rows")))


def test_files_and_folders_of_the_registry() -> None:
    calls: list[Callable[[str], Any]] = [
        registry.File.from_dir,
        lambda path: registry.File(path, key="key").save(),
        lambda path: registry.Dataset(path, name="name").save(),
    ]
    for call in calls:
        for path in REASONS:
            error = error_of(lambda call=call, path=path: call(path))  # type: ignore[misc]  # defaults
            assert isinstance(error, InvalidArgumentError if path in NOT_STORABLE else FileError)
            assert repr(path)[1:9] in str(error)
    assert "File name too long" in str(error_of(lambda: registry.File.from_dir(LONG)))
    assert lakefeed.list_datasets() == []


def test_sources_of_ingestion() -> None:
    for kind in (ingest.FolderSource, ingest.ManifestSource):
        for path in NOT_STORABLE:
            assert repr(path) in str(error_of(lambda kind=kind, path=path: kind("name", "rows", path)))  # type: ignore[misc]
        source = kind("name", "rows", LONG)
        assert LONG[:40] in str(error_of(lambda source=source: list(ingest.ingest(source))))  # type: ignore[misc]


def test_files_that_rows_name() -> None:
    for path in set(REASONS) - {"half\ud800pair"}:  # which Arrow does not store
        image = Dataset.from_dict({"image": [lakefeed.Image(path)]})
        error = error_of(lambda image=image: list(image.rows(load_files="bytes")))  # type: ignore[misc]
        assert isinstance(error, FileError)
        assert repr(path)[1:9] in str(error)


def test_questions_about_paths_have_answers() -> None:
    for path, reason in REASONS.items():
        assert [_paths.exists(path), _paths.is_file(path), _paths.is_folder(path)] == [False] * 3
        assert _paths.resolve(path).is_absolute()
        assert reason in _paths.explain_missing(path)
        assert _paths.is_storable(path) == (path not in NOT_STORABLE)
    assert _paths.is_storable("caf\udce9")  # a name of Latin-1
    assert not _paths.is_storable("")
    assert isinstance(error_of(lambda: Dataset.from_folder("gone")), MissingFileError)
