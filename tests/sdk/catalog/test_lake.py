"""The lake: names, opening, closing, forking, pickling, dropping."""

from __future__ import annotations

import gc
import multiprocessing
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from lakefeed.catalog import Lake, append, check_name, create, list_versions
from lakefeed.config import Settings
from lakefeed.errors import (
    CatalogUnavailableError,
    ConfigError,
    DatasetNotFoundError,
    InvalidNameError,
    MissingDependencyError,
)
from tests.sdk.processes import context

SCHEMA = pa.schema([("x", pa.int64())])


@pytest.mark.parametrize("name", ["a", "digits", "a-b_c9", "a" * 63, "team.digits", "team.vision.digits"])
def test_good_names(name: str) -> None:
    assert ".".join(check_name(name)).endswith(name)


@pytest.mark.parametrize(
    "name", ["", "A", "9a", "_a", "a" * 64, "a b", "a/b", "a.", ".a", "a.b.c.d", "ä", "a\n", "../a", "a'", None, 3]
)
def test_bad_names(name: object) -> None:
    with pytest.raises(InvalidNameError, match="invalid dataset name"):
        check_name(name)


def test_construction_touches_nothing(home: Path) -> None:
    Lake()
    assert not home.exists()


def test_names_are_sorted_and_qualified(lake: Lake) -> None:
    for name in ("b", "team.a", "a", "team.vision.c", "team.vision.b"):
        create(lake, name, SCHEMA, [])
    assert lake.names() == ["a", "b", "team.a", "team.vision.b", "team.vision.c"]
    assert sorted(lake.heads()) == lake.names()
    assert lake.exists("team.a")
    assert not lake.exists("team.b")
    assert not lake.exists("nowhere.b")


def test_unknown_dataset_names_the_near_misses(lake: Lake) -> None:
    create(lake, "digits", SCHEMA, [])
    with pytest.raises(DatasetNotFoundError, match=r"'digit'.*Did you mean 'digits'"):
        lake.table("digit")
    with pytest.raises(DatasetNotFoundError, match="datasets are 'digits'"):
        lake.table("zzz")
    with pytest.raises(DatasetNotFoundError):
        lake.drop("zzz")


def test_drop_leaves_no_file(lake: Lake, home: Path) -> None:
    create(lake, "t", SCHEMA, [pa.record_batch({"x": [1]})])
    lake.drop("t")
    assert lake.names() == []
    assert [path for path in home.rglob("*") if path.is_file()] == [home / "catalog.db"]


def test_a_name_used_again_is_another_table(lake: Lake) -> None:
    create(lake, "t", SCHEMA, [])
    first = lake.table("t").metadata
    lake.drop("t")
    create(lake, "t", SCHEMA, [])
    second = lake.table("t").metadata
    assert (first.table_uuid, first.location) != (second.table_uuid, second.location)


def test_equal_settings_give_the_same_lake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = Lake.current()
    assert Lake.current() is first
    monkeypatch.setenv("LAKEFEED_HOME", str(tmp_path / "other"))
    assert Lake.current() is not first


def test_pickled_lake_opens_the_same_catalog(lake: Lake) -> None:
    create(lake, "t", SCHEMA, [])
    assert pickle.loads(pickle.dumps(lake)).names() == ["t"]


def test_closed_lake_opens_again(lake: Lake) -> None:
    create(lake, "t", SCHEMA, [])
    lake.close()
    lake.close()
    assert lake.names() == ["t"]


def test_nothing_stays_open_without_close(home: Path) -> None:
    lake = Lake(Settings.load())
    create(lake, "t", SCHEMA, [])
    lake.table("t")
    open_files = [str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
    assert not [name for name in open_files if "catalog.db" in name]
    del lake
    gc.collect()  # a forgotten connection would warn here


def _append_in_child(lake: Lake, value: int) -> None:
    batch = pa.record_batch({"x": [value]})
    append(lake, "t", [batch], schema=SCHEMA)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_lake_survives_a_fork(lake: Lake) -> None:
    create(lake, "t", SCHEMA, [])
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=_append_in_child, args=(lake, value)) for value in range(3)]
    for child in children:
        child.start()
    _append_in_child(lake, 3)
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert sorted(lake.table("t").scan().to_arrow()["x"].to_pylist()) == [0, 1, 2, 3]


def test_threads_share_a_lake(lake: Lake) -> None:
    create(lake, "t", SCHEMA, [])
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda value: _append_in_child(lake, value), range(24)))
    assert sorted(lake.table("t").scan().to_arrow()["x"].to_pylist()) == list(range(24))
    assert [version.version for version in list_versions(lake.table("t"))] == list(range(25, 0, -1))


def _first_use(settings: Settings, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    Lake(settings).names()


@pytest.mark.live
@pytest.mark.parametrize("attempt", range(3))
def test_many_processes_may_use_an_empty_home_at_once(tmp_path: Path, attempt: int) -> None:
    settings, barrier = Settings(home=tmp_path / "fresh"), context().Barrier(6)
    children = [context().Process(target=_first_use, args=(settings, barrier)) for _ in range(6)]
    for child in children:
        child.start()
    for child in children:
        child.join(100)
    assert [child.exitcode for child in children] == [0] * 6


def test_a_home_with_spaces_and_signs_works(tmp_path: Path) -> None:
    lake = Lake(Settings(home=tmp_path / "my home & co ü%20+1"))
    create(lake, "t", SCHEMA, [pa.record_batch({"x": [1]})])
    append(lake, "t", [pa.record_batch({"x": [2]})], schema=SCHEMA)
    assert lake.table("t").scan().to_arrow().num_rows == 2
    lake.drop("t")
    lake.close()


@pytest.mark.parametrize("sign", "#?")
def test_a_home_that_a_url_cannot_hold_is_refused(tmp_path: Path, sign: str) -> None:
    with pytest.raises(ConfigError, match="choose another home"):
        Lake(Settings(home=tmp_path / f"a{sign}b")).names()


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"catalog.uri": "postgres://u:secret@h/db"}, ConfigError, r"postgresql\+psycopg2://"),
        ({"catalog.uri": "nonsense"}, ConfigError, r"catalog\.uri='nonsense' is not a database URL"),
        ({"catalog.uri": "postgresql+psycopg2://u:secret@h/db"}, MissingDependencyError, r"lakefeed\[postgres\]"),
        ({"catalog.uri": "sqlite:////etc/passwd"}, CatalogUnavailableError, "not a database"),
        ({"catalog.type": "rset"}, ConfigError, r"catalog\.type 'rset'.*Did you mean 'rest'"),
    ],
)
def test_a_catalog_that_cannot_be_opened_says_which_setting_to_change(
    settings: dict[str, str], error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(error, match=message) as raised:
        Lake(Settings.load(**settings)).names()
    assert "secret" not in str(raised.value)


def test_a_home_below_a_file_is_refused(home: Path) -> None:
    home.write_text("a file")
    with pytest.raises(ConfigError, match="LAKEFEED_HOME"):
        Lake(Settings.load()).names()
