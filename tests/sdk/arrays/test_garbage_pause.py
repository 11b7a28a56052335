"""Garbage collections while h5py reads remote files."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("anndata")
h5py = pytest.importorskip("h5py")

from lakefeed.arrays.garbage_pause import pause_garbage_collection  # noqa: E402
from lakefeed.arrays.h5ad_file import open_h5ad  # noqa: E402
from tests.sdk.arrays.h5ad_files import matrix, write  # noqa: E402
from tests.sdk.web import Handler, serving  # noqa: E402


@pytest.fixture(autouse=True)
def collector_as_before() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.set_threshold(*threshold)
    gc.enable()


def drop_a_file_in_a_cycle(path: Path) -> None:
    cycle: list[Any] = [h5py.File(path, "r")]
    cycle.append(cycle)
    gc.collect(0)  # so that it is older than what the next collections of the youngest look at


def test_a_server_that_collects_objects_of_h5py_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread of the server needs the lock that the reader holds: before, this took the timeout of a request."""
    monkeypatch.setenv("LAKEFEED__FILES__TIMEOUT", "5")
    write(tmp_path / "a.h5ad", matrix(20, 5), {"cell": np.arange(20)})
    answered = 0

    def collect_and_serve(handler: Handler) -> None:
        nonlocal answered
        answered += 1
        if answered == 2:  # the first one answers without h5py
            gc.set_threshold(10, 0, 1_000)
            assert all(item == [] for item in [[] for _ in range(1_000)])  # enough for a collection
        handler.serve()

    with serving() as site:
        site.always["/a.h5ad"] = collect_and_serve
        url = site.put("a.h5ad", (tmp_path / "a.h5ad").read_bytes())
        gc.set_threshold(1_000_000, 1_000, 1_000)
        drop_a_file_in_a_cycle(tmp_path / "a.h5ad")
        assert open_h5ad(url).shape == (20, 5)
        assert answered == len(set(site.requests)) > 1, "a request was repeated"


def test_the_pause_begins_when_no_thread_collects_garbage() -> None:
    begun, proceed, finished = threading.Event(), threading.Event(), threading.Event()

    class Slow:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            begun.set()
            proceed.wait(10)
            finished.set()

    Slow()
    collector = threading.Thread(target=gc.collect)
    collector.start()
    assert begun.wait(10)
    threading.Timer(0.05, proceed.set).start()
    with pause_garbage_collection():
        assert finished.is_set()
        assert not gc.isenabled()
        with pause_garbage_collection():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    collector.join()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    with pytest.raises(RuntimeError), pause_garbage_collection():
        raise RuntimeError
    assert not gc.isenabled()
