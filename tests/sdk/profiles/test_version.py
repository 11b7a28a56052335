"""The profile of a version, whoever wrote it."""

from __future__ import annotations

import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.catalog import Lake
from lakefeed.errors import VersionNotFoundError
from lakefeed.profiles import profile, profiles

pytestmark = pytest.mark.usefixtures("lake")


def test_only_added_rows_count() -> None:
    Dataset.from_dict({"x": [1, 2]}).save("data")
    Dataset.from_dict({"x": [30]}).append_to("data")
    first, second = profiles("data", [1, 2])
    assert (first.columns["x"].greatest, second.columns["x"].least) == (2, 30)
    assert (second.rows, second.before, second.version.total_records) == (1, 1, 3)
    assert second.bytes_total > second.bytes_added > 0


def test_an_edit_is_profiled_by_what_it_brought() -> None:
    Dataset.from_dict({"id": [1, 2], "x": [1, 2]}).save("data")
    Dataset.from_dict({"id": [2, 3], "x": [20, 30]}).upsert_into("data", keys="id")
    found = profile("data", 2)
    assert (found.rows, found.columns["x"].least) == (2, 20)


def test_an_overwrite_by_another_client_is_profiled_by_what_it_brought() -> None:
    Dataset.from_dict({"x": [1, 2, 3]}).save("data")
    Lake.current().table("data").overwrite(pa.table({"x": pa.array([3, 4], pa.int64())}))
    newest = profile("data", Dataset("data").version)
    assert newest.unread is None
    assert newest.rows <= newest.version.added_records


def test_the_columns_that_came_are_told() -> None:
    Dataset.from_dict({"x": [1]}).save("data")
    Dataset("data").add_column("y", pa.string())
    Dataset.from_dict({"x": [1], "y": ["a"]}).append_to("data")
    assert profile("data", 2).changed.added == {"y": pa.string()}
    assert not profile("data", 1).changed


def test_a_version_that_is_not_there() -> None:
    Dataset.from_dict({"x": [1]}).save("data")
    with pytest.raises(VersionNotFoundError):
        profile("data", 2)
