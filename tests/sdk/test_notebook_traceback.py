"""Errors in a notebook are short: the reader's own lines, the cause in them, and the message."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.catalog.lake import Lake
from lakefeed.errors import ColumnNotFoundError, LakefeedError, TransformError

SCHEMA = pa.schema({"y": pa.float64()})
CELL = """inverse = lambda row: {'y': 1 / row['id']}
Dataset.from_dict({'id': [0]}).map(inverse, schema=SCHEMA).to_arrow()"""


def inverse(row: dict[str, int]) -> dict[str, float]:
    return {"y": 1 / row["id"]}


def shown(error: LakefeedError) -> str:
    return "\n".join(error._render_traceback_())


def test_own_lines_causes_and_message_are_shown(lake: Lake) -> None:
    rows = Dataset.from_dict({"id": [0]})
    with pytest.raises(ColumnNotFoundError) as unknown:
        rows.filter("idd > 3")
    text = shown(unknown.value)
    assert re.match(rf"File {re.escape(__file__)}, line \d+, in test_own_lines\w+\n    rows.filter\(", text), text
    assert "no column 'idd'" in text
    assert text.count("File ") == 1
    assert "lakefeed/expr" not in text
    assert text.endswith("traceback.print_last())")

    with pytest.raises(TransformError) as failed:
        rows.map(inverse, schema=SCHEMA).to_arrow()
    failed.value.add_note("a note")
    text = shown(failed.value)
    assert text.index("in inverse") < text.index("ZeroDivisionError: ") < text.index("TransformError: ")
    assert "a note" in text
    assert text.count("File ") == 2


def test_a_cause_inside_of_lakefeed_is_left_out(lake: Lake) -> None:
    with pytest.raises(LakefeedError) as refused:
        Dataset.from_dict({"id": [1, "one"]})
    assert shown(refused.value).count("Error: ") == 1


@pytest.mark.live
def test_ipython_names_the_cell(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell.instance()
    shell.user_ns.update(Dataset=Dataset, SCHEMA=SCHEMA)
    assert not shell.run_cell(CELL, store_history=True).success
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 12
    assert [line for line in lines if line.startswith("Cell In[1], line ")] == [
        "Cell In[1], line 1, in <lambda>",
        "Cell In[1], line 2",
    ]
