"""`Dataset.profile`: statistics of any rows, as people see them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from lakefeed import Dataset
from tests.sdk.media.pictures import write

pytestmark = pytest.mark.usefixtures("lake")


def test_any_rows_have_a_profile(tmp_path: Path) -> None:
    rows = Dataset.from_dict(
        {
            "x": [1, 2, 2, None],
            "text": ["a", "b\nc", None, "<z>" * 100],
            "f": [0.5, float("nan"), 2.0, 4.0],
            "day": [dt.datetime(2020, 1, day) for day in range(1, 5)],
            "ok": [True, False, None, True],
            "list": [[1], [2, 3], [], None],
        }
    )
    report = rows.profile()
    assert repr(report).splitlines()[0] == "4 rows"
    lines = {line.split()[0]: line for line in repr(report).splitlines()[2:]}
    assert lines["x"].split() == ["x", "int64", "1", "2", "1", "1.67", "2", "2"]
    assert lines["f"].split()[-3:] == ["2.17", "2", "4"]
    assert lines["list"].split() == ["list", "list<item:", "int64>", "1"]
    assert max(map(len, lines.values())) < 200
    page = report._repr_html_()
    assert "<z>" not in page
    assert "&lt;z&gt;" in page
    assert rows.filter("x = 2").profile().rows == 2
    assert rows.head(0).profile().columns["x"].least is None
    file = write(tmp_path / "a.bin", b"12345")
    Dataset.from_dict({"file": [file, None]}).save("files", column_types={"file": "file"})
    names = [line.column for line in Dataset("files").profile().lines()]
    assert names == ["file", "file.size"]
    assert Dataset("files").profile().columns["file"].fields["size"].least == 5
