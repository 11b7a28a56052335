"""The servers of the test run, and a lake on them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lakefeed.catalog.lake import Lake
from lakefeed.config import Settings
from tests.stack.servers import Stack, missing, stack

# Where these tests must run: elsewhere they are skipped, with the reason.
REQUIRED = bool(os.environ.get("CI") or os.environ.get("LAKEFEED_TEST_STACK"))


@pytest.fixture(scope="session")
def servers() -> Iterator[Stack]:
    """A PostgreSQL and an S3 that live as long as the test run."""
    reason = missing()
    if reason and REQUIRED:
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    with stack() as running:
        yield running


@pytest.fixture
def name(servers: Stack, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new database and a new part of the bucket of that name, which lakefeed uses by its environment alone."""
    fresh = servers.fresh()
    for key, value in servers.environment(fresh).items():
        monkeypatch.setenv(key, value)
    return fresh


@pytest.fixture(params=["pyarrow.PyArrowFileIO", "fsspec.FsspecFileIO"])
def file_io(request: pytest.FixtureRequest, name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways in which PyIceberg reaches an S3."""
    monkeypatch.setenv("LAKEFEED__CATALOG__PROPERTIES", f'{{"py-io-impl": "pyiceberg.io.{request.param}"}}')
    return str(request.param)


@pytest.fixture
def lake(name: str) -> Iterator[Lake]:
    """A fresh lake on PostgreSQL and S3."""
    fresh = Lake(Settings.load())
    yield fresh
    fresh.close()
