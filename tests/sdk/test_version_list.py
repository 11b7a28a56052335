"""The list of versions prints as a table, and is a list in every other way."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import asdict

import pytest

from lakefeed import Dataset
from lakefeed.catalog import Provenance

pytestmark = pytest.mark.usefixtures("lake")


def test_versions_print_as_a_table() -> None:
    Dataset.from_dict({"x": list(range(1_200))}).save(
        "printed", provenance=Provenance(message="first <b>\n\x1b[31mlines")
    )
    for number in range(3):
        Dataset.from_dict({"x": [number]}).append_to("printed", provenance=Provenance(message="a long message " * 20))
    versions = Dataset("printed").list_versions()
    lines = repr(versions).splitlines()
    assert lines[0].split() == [
        "version",
        "committed",
        "(UTC)",
        "operation",
        "added",
        "removed",
        "total",
        "user",
        "message",
    ]
    assert len(lines) == 5
    assert lines[4].split()[:8:7] == ["1", str(versions[-1].user)]
    assert "1,200" in lines[4]
    assert lines[4].endswith("first <b> [31mlines")
    assert all(len(line) < 160 for line in lines)
    assert "…" in lines[1]
    page = versions._repr_html_()
    assert page.count("<tr>") == 5
    assert "first &lt;b&gt;" in page


def test_the_list_of_versions_is_a_list() -> None:
    Dataset.from_dict({"x": [1]}).save("listed")
    for number in range(60):
        Dataset.from_dict({"x": [number]}).append_to("listed")
    versions = Dataset("listed").list_versions()
    assert isinstance(versions, list)
    assert [each.version for each in versions] == list(range(61, 0, -1))
    assert repr(versions).endswith("… 11 older versions")
    assert len(repr(versions[:2]).splitlines()) == 3
    assert versions == list(versions) == pickle.loads(pickle.dumps(versions)) == copy.deepcopy(versions)
    assert json.dumps([asdict(each) for each in versions[:1]])
    assert len(repr(Dataset("listed").list_versions()[:0]).splitlines()) == 1
