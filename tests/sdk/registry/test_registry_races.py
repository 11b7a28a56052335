"""Many processes at once, and processes that are killed: a record is whole or missing, and a content is one record."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
import pytest

import lakefeed.registry as ln
from lakefeed.catalog.lake import Lake
from tests.sdk.processes import Program, finish_all

pytestmark = pytest.mark.live  # starts processes

HEAD = """
import sys
import pandas as pd
import lakefeed.registry as ln
"""

SAME_CONTENT = """
df = pd.DataFrame({"x": range(1000)})
dataset = ln.Dataset(df, name="same")
dataset.save()
file = ln.File("one.txt")
file.save()
folder = ln.Dataset("folder/", name="folder")
folder.save()
files = ln.Dataset([ln.File("one.txt"), ln.File("two.txt")], name="files")
files.save()
print(dataset.uid, file.uid, folder.uid, files.uid, *(each.uid for each in files.files))
"""

NEXT_VERSION = """
first = ln.Dataset.get(sys.argv[1])
for step in range(3):
    ln.Dataset(pd.DataFrame({"x": [int(sys.argv[2]) * 100 + step]}), is_new_version_of=first).save()
"""

ENDLESS = """
for step in range(10_000):
    number = int(sys.argv[1]) * 100_000 + step
    pd.DataFrame({"x": [number]}).to_csv(f"{number}.csv", index=False)
    ln.Dataset([ln.File(f"{number}.csv"), ln.File(pd.DataFrame({"x": [number]}))], name=f"files {number}").save()
    ln.Dataset(pd.DataFrame({"x": [number]}), name=f"table {number}").save()
    print(number, flush=True)
"""


def test_a_content_that_many_processes_save_is_one_record(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    for name in ("one", "two"):
        Path(f"{name}.txt").write_text(name)
        Path(f"folder/{name}.txt").write_text(name)
    printed = finish_all([Program(HEAD + SAME_CONTENT) for _ in range(8)])
    assert len(set(printed)) == 1
    assert (ln.Dataset.filter().count(), ln.File.filter().count()) == (3, 2)
    assert ln.Dataset.filter(name="files").one().load is not None


def test_versions_of_racing_writers_have_labels_of_their_own(lake: Lake) -> None:
    first = ln.Dataset(pd.DataFrame({"x": [-1]}), name="numbers")
    first.save()
    finish_all([Program(HEAD + NEXT_VERSION, first.uid, number) for number in range(4)])
    versions = first.versions
    assert sorted(int(each.version) for each in versions) == list(range(1, 14))
    assert len({each.load()["x"].tolist()[0] for each in versions}) == 13


def test_a_save_that_is_killed_leaves_a_whole_record_or_none(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(4):
        program = Program(HEAD + ENDLESS, number)
        assert program.stdout.readline() == f"{number * 100_000}\n"
        time.sleep(0.05 * number)
        program.kill()
        program.finish()
    records = ln.Dataset.filter().list()
    assert len(records) >= 8
    for record in records:
        number = int(str(record.name).rpartition(" ")[2])
        if str(record.name).startswith("table"):
            assert record.load()["x"].tolist() == [number]
        else:
            assert [file.load()["x"].tolist() for file in record.files] == [[number]] * 2
    assert ln.File.filter().count() == 2 * sum(str(each.name).startswith("files") for each in records)
    assert all(file.load() is not None for file in ln.File.filter())
    number = 300_000
    again = ln.Dataset([ln.File(f"{number}.csv"), ln.File(pd.DataFrame({"x": [number]}))], name="again")
    again.save()
    assert again.name == f"files {number}"
