"""Saves that are killed before each of their steps leave a whole record or none, and the next one saves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pytest
from sqlalchemy import func, select

import lakefeed.registry as ln
from lakefeed.catalog.lake import Lake
from lakefeed.records.claims import EXPIRY_SECONDS
from lakefeed.records.record_registry import Registry
from lakefeed.records.record_tables import CLAIM, METADATA, RECORD
from tests.sdk.killing import is_killed
from tests.sdk.registry.registry_victims import killed_save, save
from tests.sdk.test_garbage import age, collected

pytestmark = pytest.mark.live

STRIDES: Final = {"table": 13, "next version": 13, "list": 23, "folder": 23, "file": 5, "change": 1}
"""The share of the steps that every run tests, by what is saved. The soak tests all."""
CASES: Final = [
    *(pytest.param(kind, stride, id=kind) for kind, stride in STRIDES.items()),
    *(
        pytest.param(kind, 1, id=f"{kind}, all", marks=[pytest.mark.soak, pytest.mark.timeout(0)])
        for kind in (*STRIDES, "anndata")
    ),
]


@pytest.fixture
def folder(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    ln.Feature("height", "float").save()
    save("table", "chain", -1)
    return tmp_path


def steps(stride: int, folder: Path, kind: str) -> Iterator[tuple[str, int]]:
    """Kills saves, each of another content, before their steps. Yields the names of the records, until one ends."""
    for number in count():
        name = f"{kind} {number}"
        if kind == "change":
            save("table", name, number)
        step = 1 + number * stride
        if not is_killed(killed_save, str(folder), kind, name, number, step):
            break
        yield name, number


def found(kind: str, name: str) -> Any:
    """Returns the record of a name; None if there is none."""
    if kind == "file":
        return ln.File.filter(key=name).one_or_none()
    if kind == "next version":
        return ln.Dataset.filter(name="chain", version=name).one_or_none()
    return ln.Dataset.filter(name=name, visibility="all").one_or_none()


def check_whole(kind: str, name: str, number: int, record: Any) -> None:
    labels = {(label.type, label.name) for label in record.labels}
    assert labels == {("", "red"), ("Species", "cat")}
    assert Registry.open().get(record.uid).is_latest or kind == "next version"
    if kind in ("table", "next version", "change"):
        assert record.load()["height"].tolist() == [number]
        assert [each.name for each in record.feature_sets["columns"].features] == ["height"]
    elif kind == "list":
        assert [file.key for file in record.files] == [f"{name}/a.csv", f"{name}/b.csv"]
        assert record.load()["x"].tolist() == [f"{number}a", f"{number}b"]
        assert all(file.labels.list() == ["part"] and Registry.open().get(file.uid).is_latest for file in record.files)
        assert ln.File.filter(dataset=record).count() == 2
    elif kind == "folder":
        assert record.dataset.to_pandas()["split"].tolist() == ["train", "test"]
        assert sorted(Path(record.stage()).rglob("*.csv"))[1].read_text() == f"x\n{number}b\n"
    elif kind == "file":
        assert record.load()["x"].tolist() == [f"{number}a"]
    else:
        assert record.load().X.tolist() == [[number, number]]
        assert {each: record.feature_sets[each].features[0].name for each in ("var", "obs")} == {
            "var": "ENSG00000000003",
            "obs": "height",
        }


def check_change(record: Any, name: str, number: int) -> None:
    changed = (record.description, record.reference, record.visibility)
    assert changed in [(None, None, 0), (name, f"doi:{number}", 1)]


@pytest.mark.parametrize(("kind", "stride"), CASES)
def test_a_save_that_is_killed_before_any_step_leaves_a_whole_record_or_none(
    kind: str, stride: int, folder: Path
) -> None:
    if kind == "anndata":
        pytest.importorskip("anndata")
    states, names = [], set()
    for name, number in steps(stride, folder, kind):
        record = found(kind, name)
        states.append(record is not None)
        if record is not None:
            check_whole(kind, name, number, record)
            if kind == "change":
                check_change(record, name, number)
        elif kind == "list":
            assert not ln.File.filter(key__startswith=f"{name}/").exists()
        begun = time.monotonic()
        again = save(kind, name, number)
        assert time.monotonic() - begun < EXPIRY_SECONDS / 2  # it does not wait for a claim of the dead
        record = found(kind, name)
        assert (record, record.uid) == (again, (again if states[-1] is False else record).uid)
        check_whole(kind, name, number, record)
        names.add(name)
    assert len(states) > 1
    assert states == sorted(states) or kind == "change"  # none before the commit, whole ones after it
    with Registry.open().read() as connection:
        assert connection.scalar(select(func.count()).select_from(CLAIM)) == 0
        whole = connection.execute(select(RECORD.c.uid, RECORD.c.name, RECORD.c.presence)).all()
    listed = {each.dataset.name for each in ln.Dataset.filter(visibility="all") if each.tree is None}
    assert {name for name in Lake.current().names() if not name.startswith("folder")} == listed
    assert len({row.uid for row in whole}) == len(whole)
    check_after_losses(kind, names, folder)


def check_after_losses(kind: str, names: set[str], folder: Path) -> None:
    """After a garbage collection, and after the SQL tables of versions are lost, the records are whole."""
    age(folder)
    collected()
    if kind not in ("file", "list", "anndata", "change"):  # files and changes are in SQL alone
        with Registry.open().write() as connection:
            METADATA.drop_all(connection)
    for name in names:
        check_whole(kind, name, int(name.rpartition(" ")[2]), found(kind, name))


def test_the_first_save_of_a_lake_is_killed_before_any_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(1, 60, 19):
        home = tmp_path / str(number)
        monkeypatch.setenv("LAKEFEED_HOME", str(home))
        if not is_killed(killed_save, str(tmp_path), "table", "first", number, number):
            break
        assert ln.Dataset.filter(name="first").count() in (0, 1)
        record = save("table", "first", number)
        assert ln.Dataset.filter().list() == [record]
        assert pd.DataFrame({"height": [float(number)]}).equals(record.load())
