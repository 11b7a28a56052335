"""Settings: explicit > environment > file > default; what cannot work says so."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from lakefeed import Dataset, Settings
from lakefeed.catalog.lake import Lake
from lakefeed.config import setting_origins
from lakefeed.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def toml(folder: Path, text: str, name: str = "lakefeed.toml") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_precedence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    default = Settings.load().commit.retries
    toml(folder, "[commit]\nretries = 1\nmin_wait = 0.25\n[read]\nthreads = 3")
    assert Settings.load().commit.retries == 1 != default
    monkeypatch.setenv("LAKEFEED__COMMIT__RETRIES", "2")
    assert Settings.load().commit.retries == 2
    explicit = Settings.load(**{"commit.retries": 5})
    assert (explicit.commit.retries, explicit.commit.min_wait, explicit.read.threads) == (5, 0.25, 3)
    assert explicit.commit.max_wait == Settings().commit.max_wait


def test_where_the_file_is_looked_for(folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml(home, "[read]\nthreads = 1")
    assert Settings.load().read.threads == 1
    toml(folder, "[read]\nthreads = 2")
    assert Settings.load().read.threads == 2
    monkeypatch.setenv("LAKEFEED_CONFIG", str(toml(folder, "[read]\nthreads = 3", "other.toml")))
    assert Settings.load().read.threads == 3
    monkeypatch.setenv("LAKEFEED_CONFIG", "none.toml")
    with pytest.raises(ConfigError, match=r"none\.toml"):
        Settings.load()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"commit.retries": -1}, r"commit\.retries"),
        ({"commit.retries": "many"}, r"commit\.retries"),
        ({"commit.tries": 1}, r"commit\.tries"),
        ({"comit": {}}, "comit"),
        ({"commit": 5}, "commit"),
        ({"commit": 5, "commit.retries": 1}, r"commit\.retries"),
        ({"read": {"threads": 0}}, r"read\.threads"),
    ],
)
def test_explicit_settings_that_cannot_work(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Settings.load(**given)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LAKEFEED__READ__THREADS", "many"),
        ("LAKEFEED__READ__THREDS", "2"),
        ("LAKEFEED__RAED__THREADS", "2"),
        ("LAKEFEED__READ", "{not json"),
    ],
)
def test_variables_that_cannot_work(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"(?i)read|raed"):
        Settings.load()
    with pytest.raises(ConfigError):
        Dataset("t")


@pytest.mark.parametrize("text", ["[read]\nthreads = 0", "[read]\nthreds = 1", "[raed]\nthreads = 1", "not toml"])
def test_files_that_cannot_work(text: str, folder: Path) -> None:
    toml(folder, text)
    with pytest.raises(ConfigError):
        Settings.load()


def test_places_follow_from_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.load(home=tmp_path / "h", cache_dir=None)
    assert settings.catalog_uri == f"sqlite:///{tmp_path}/h/catalog.db"
    assert settings.warehouse == f"file://{tmp_path}/h/warehouse"
    assert settings.blob_url == f"file://{tmp_path}/h/blobs"
    assert settings.cache == tmp_path / "cache"
    monkeypatch.delenv("LAKEFEED_CACHE_DIR")
    assert settings.cache == tmp_path / "h" / "cache"
    own = Settings.load(**{"catalog.uri": "sqlite:///x", "catalog.warehouse": "s3://w", "blobs.url": "s3://b"})
    assert (own.catalog_uri, own.warehouse, own.blob_url) == ("sqlite:///x", "s3://w", "s3://b")


def test_the_callers_mapping_stays_as_it_is() -> None:
    commit = {"min_wait": 0.5}
    assert Settings.load(**{"commit": commit, "commit.retries": 7}).commit.retries == 7
    assert commit == {"min_wait": 0.5}


def test_settings_are_values() -> None:
    settings = Settings.load(**{"read.threads": 3})
    assert pickle.loads(pickle.dumps(settings)) == settings
    with pytest.raises(ValueError, match="frozen"):
        settings.home = Path("/")  # type: ignore[misc]


def test_equal_settings_share_a_lake_and_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Lake.current()
    assert Lake.current() is one
    monkeypatch.setenv("LAKEFEED__READ__THREADS", "7")
    assert Lake.current() is not one


def test_settings_are_made_anew_where_what_they_follow_from_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = Settings.load()
    assert Settings.load() is first
    for retries in (3, 4):  # a file of the same size, perhaps within one tick of its clock
        (tmp_path / "lakefeed.toml").write_text(f"[commit]\nretries = {retries}\n")
        assert Settings.load().commit.retries == retries
    monkeypatch.setenv("LAKEFEED__COMMIT__RETRIES", "5")
    assert Settings.load().commit.retries == 5
    monkeypatch.setenv("LAKEFEED_HOME", "elsewhere")
    assert Settings.load().home == tmp_path / "elsewhere"
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    assert Settings.load().home == tmp_path / "inner" / "elsewhere"
    assert Settings.load(**{"commit.retries": 6}).commit.retries == 6
    assert Settings.load().commit.retries == 5
    monkeypatch.setenv("LAKEFEED__COMIT__RETRIES", "5")
    with pytest.raises(ConfigError, match="COMIT"):
        Settings.load()


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("LAKEFEED_HOM", "'LAKEFEED_HOME'"),
        ("lakefeed_home", "'LAKEFEED_HOME'"),
        ("LAKEFEED_CATALOG_URI", "'LAKEFEED__CATALOG__URI'"),
        ("LAKEFEED_WAREHOUSE", "'LAKEFEED__CATALOG__WAREHOUSE'"),
        ("LAKEFEED_CACHE_DIRS", "'LAKEFEED_CACHE_DIR'"),
        ("LAKEFEED__READ__THREDS", "'LAKEFEED__READ__THREADS'"),
        ("LAKEFEED__RAED__THREADS", "'LAKEFEED__READ__THREADS'"),
        ("LAKEFEED__READ__THREADS__MORE", "'LAKEFEED__READ__THREADS'"),
        ("LAKEFEED_SOMETHING", "There are settings"),
        ("LAKEFED_HOME", "'LAKEFEED_HOME'"),
        ("LAKE_FEED_HOME", "'LAKEFEED_HOME'"),
        ("LAKEFEEDHOME", "'LAKEFEED_HOME'"),
        ("LAKEFEEED_CACHE_DIR", "'LAKEFEED_CACHE_DIR'"),
        ("LAKEFEDE__READ__THREADS", "'LAKEFEED__READ__THREADS'"),
        ("lakefeet_commit_retries", "'LAKEFEED__COMMIT__RETRIES'"),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_near_miss(
    name: str, near: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(ConfigError, match=f"'{name}'.*{near}"):
        Dataset("t")


def test_variables_that_lakefeed_and_kubernetes_use_pass(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "LAKEFEED_COMPUTE": "dask",
        "LAKEFS_HOME": "/lakefs",
        "LAKEFED_UNRELATED": "x",
        "FEED_HOME": "x",
        "MY_LAKEFEED_HOME": "x",
        "LAKEFEED_DAGSTER_URL": "http://webserver",
        "LAKEFEED__FILES__OPTIONS__S3__KEY": "k",
        "lakefeed__read__threads": "2",
        "LAKEFEED_PORT": "tcp://10.0.0.1:80",
        "LAKEFEED_DAGSTER_WEBSERVER_SERVICE_HOST": "10.0.0.1",
        "LAKEFEED_DAGSTER_WEBSERVER_SERVICE_PORT_HTTP": "80",
        "LAKEFEED_DAGSTER_WEBSERVER_PORT_80_TCP_ADDR": "10.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    assert (Settings.load().read.threads, Settings.load().home) == (2, home)
    assert Settings.load().files.options["s3"] == {"key": "k"}
    monkeypatch.setenv("LAKEFEED_HOME", "")
    assert Settings.load().home == Path("~/.lakefeed").expanduser()
    monkeypatch.setenv("LAKEFEED_PORT", "80")
    with pytest.raises(ConfigError, match="LAKEFEED_PORT"):
        Settings.load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[read]\nthreds = 1", r"lakefeed\.toml': unknown setting 'read\.threds'\. Did you mean 'read\.threads'"),
        ("[raed]\nthreads = 1", r"lakefeed\.toml': unknown setting 'raed'\. Did you mean 'read'"),
        ("[read]\nthreads = 0", r"lakefeed\.toml': read\.threads: "),
        ("not toml", r"lakefeed\.toml' cannot be read as TOML: .*line 1"),
        ("[read]\nthreads = '\xff'", r"lakefeed\.toml' cannot be read as TOML: "),
    ],
)
def test_a_mistake_is_told_with_the_file_the_key_and_the_near_miss(text: str, message: str, folder: Path) -> None:
    (folder / "lakefeed.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=message):
        Settings.load()


def test_a_value_is_told_with_where_it_was_given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml(folder, "[read]\nthreads = 2")
    monkeypatch.setenv("LAKEFEED__COMMIT", '{"retrys": 3}')
    with pytest.raises(ConfigError, match=r"\$LAKEFEED__COMMIT: .*'commit\.retrys'.*'commit\.retries'"):
        Settings.load()
    monkeypatch.setenv("LAKEFEED__COMMIT", '{"retries": -3}')
    with pytest.raises(ConfigError, match=r"\$LAKEFEED__COMMIT: commit\.retries: "):
        Settings.load()
    with pytest.raises(ConfigError, match=r"argument: .*'commit\.tries'.*'commit\.retries'"):
        Settings.load(commit={"tries": 1})


def test_the_places_of_a_setting_are_listed_in_order(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED__CATALOG__NAMESPACE", "team")
    monkeypatch.setenv("LAKEFEED__COMMIT", '{"retries": 3}')
    monkeypatch.setenv("LAKEFEED__HOME", str(home))
    home.mkdir()
    (home / "lakefeed.toml").write_text("[catalog]\nnamespace = 'other'\n[commit]\nretries = 4\nmin_wait = 1\n")
    file, origins = repr(str(home / "lakefeed.toml")), setting_origins()
    assert origins["catalog.namespace"] == ["$LAKEFEED__CATALOG__NAMESPACE", file, "default"]
    assert origins["catalog.type"] == origins["catalog.properties"] == ["default"]
    assert origins["commit.retries"] == ["$LAKEFEED__COMMIT", file, "default"]
    assert origins["commit.min_wait"] == [file, "default"]
    assert origins["home"] == ["$LAKEFEED__HOME", "$LAKEFEED_HOME", "default"]
    monkeypatch.setenv("LAKEFEED__CATALOG__PROPERTIES__X", "1")
    assert setting_origins()["catalog.properties"] == ["$LAKEFEED__CATALOG__PROPERTIES", "default"]
