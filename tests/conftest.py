"""What every test shares: a home of its own, a fresh lake, and how hard hypothesis looks."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests.sdk.prepared_homes import PreparedHomes

if TYPE_CHECKING:
    from lakefeed.catalog.lake import Lake

MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 << 30


def folder_of_its_own(parent: Path | None = None) -> str:
    """A new folder, which goes with this process."""
    folder, owner = tempfile.mkdtemp(prefix="lakefeed-", dir=parent), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def write_into_memory() -> bool:
    """Puts temporary files into memory, where there is much of it.

    Set TMPDIR to have them elsewhere, and to look at what failed tests leave.
    """
    if "TMPDIR" in os.environ:
        return Path(os.environ["TMPDIR"]).is_relative_to(MEMORY)
    if not os.access(MEMORY, os.W_OK) or shutil.disk_usage(MEMORY).free < ROOM_BYTES:
        return False
    folder = folder_of_its_own(MEMORY)
    Path(folder).chmod(0o711)  # PostgreSQL, which root may not run, has a folder in it
    os.environ["TMPDIR"] = folder
    tempfile.tempdir = None
    return True


def wait_for_no_disk() -> None:
    """No test loses power, and a new lake would spend most of its time in waiting for the disk."""
    from sqlalchemy import Engine, event

    os.fsync = os.fdatasync = lambda descriptor: None

    @event.listens_for(Engine, "connect")
    def connected(connection: Any, record: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous=OFF")


def share_compiled_statements() -> None:
    """Lets all lakes of this process use a statement that was compiled for one: a quarter of a save to a new lake.

    SQLAlchemy has one cache per engine, with the dialect in its keys; a process of a user opens one lake or a few.
    """
    from sqlalchemy import Connection, Engine, event
    from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

    SQLiteDialect_pysqlite.__eq__ = lambda self, other: type(self) is type(other)  # type: ignore[method-assign]
    SQLiteDialect_pysqlite.__hash__ = lambda self: hash(type(self))  # type: ignore[method-assign]
    shared: dict[type, Any] = {}

    @event.listens_for(Engine, "engine_connect")
    def connected(connection: Connection) -> None:
        engine = connection.engine
        engine._compiled_cache = shared.setdefault(type(engine.dialect), engine._compiled_cache)


if not write_into_memory():
    wait_for_no_disk()
share_compiled_statements()
# Also what runs at import, before any fixture, stays away from the home of whoever runs the tests.
os.environ["LAKEFEED_HOME"] = folder_of_its_own()

# A slow or busy machine is no failure; the same examples every time.
settings.register_profile(
    "ci", max_examples=35, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
# HYPOTHESIS_PROFILE=thorough pytest tests/properties: new examples every time, and many of them.
settings.register_profile("thorough", parent=settings.get_profile("ci"), max_examples=2_000, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


# Tests that start servers, or install an environment of their own.
LIVE_FOLDERS = tuple(Path(__file__).parent / name for name in ("sdk_alone", "stack"))

# What Dagster warns of by itself; the SDK's tests also run where there is no Dagster.
OF_DAGSTER = (
    # A run over a range of versions needs it; pinned, so it changes only when we look.
    "ignore:Parameter `backfill_policy` of function `asset` is currently in beta:dagster.BetaWarning",
    # For a resource that has no fields.
    "ignore:The `__fields__` attribute is deprecated:pydantic.warnings.PydanticDeprecatedSince20",
)


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        sys.argv[:1] = ["pytest"]  # a worker of pytest-xdist is started with `python -c`, which would be its code
    gc.disable()  # until all tests are collected: nearly all that is made until then stays
    for line in OF_DAGSTER if find_spec("dagster") else ():
        config.addinivalue_line("filterwarnings", line)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks whole folders as live; the files with slow tests go first, else one worker ends alone with them."""
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in LIVE_FOLDERS):
            item.add_marker("live")
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("live")}
        items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """What all the modules hold stays: no collection of garbage looks at it again, in no process that is forked."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    """At the end of the interpreter they go like any other."""
    gc.unfreeze()
    gc.enable()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home for this test; no setting of the machine reaches it."""
    for name in [name for name in os.environ if name.startswith("LAKEFEED_")]:
        monkeypatch.delenv(name)
    place = tmp_path / "home"
    monkeypatch.setenv("LAKEFEED_HOME", str(place))
    monkeypatch.setenv("LAKEFEED_CACHE_DIR", str(tmp_path / "cache"))
    return place


@contextmanager
def _home_in(folder: Path, settings: dict[str, str]) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("LAKEFEED_")]:
            patch.delenv(name)
        patch.setenv("LAKEFEED_HOME", str(folder / "home"))
        patch.setenv("LAKEFEED_CACHE_DIR", str(folder / "cache"))
        for name, value in settings.items():
            patch.setenv(name, value)
        yield folder


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., AbstractContextManager[Path]]:
    """Opens an empty home, for datasets that the tests of a module only read; arguments are environment variables.

    Such a dataset goes on reading its own home when the tests have theirs. Saving it once saves 50 ms for every test.
    """
    return lambda **settings: _home_in(tmp_path_factory.mktemp("shared"), settings)


@pytest.fixture(scope="module")
def prepared_homes(tmp_path_factory: pytest.TempPathFactory) -> PreparedHomes:
    return PreparedHomes(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def lake(home: Path) -> Iterator[Lake]:
    """A fresh lake in this test's home: embedded catalog, local files."""
    from lakefeed.catalog.lake import Lake
    from lakefeed.config import Settings

    fresh = Lake(Settings.load())
    yield fresh
    fresh.close()
