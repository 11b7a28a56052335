"""`Changes.rows`: the rows that differ, with their values before and after."""

from __future__ import annotations

import pickle

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakefeed import Changes, Dataset, Table
from lakefeed.errors import UnsupportedError


def sides(changes: Changes) -> list[tuple[str, object, object]]:
    return sorted(((row["change"], row["before"], row["after"]) for row in changes.rows().rows()), key=repr)


def test_rows_are_removed_added_and_changed() -> None:
    Dataset.from_dict({"id": [1, 2, 3], "x": ["a", "b", "c"]}).save("rows")
    Dataset.from_dict({"id": [2, 4], "x": ["B", "d"]}).upsert_into("rows", keys="id")
    Dataset("rows").delete_rows("id == 1")
    Dataset("rows").add_column("before", pa.list_(pa.int64()))
    Dataset.from_dict({"id": [5], "x": ["<e>"], "before": [[5]]}).append_to("rows")
    changes = Dataset("rows").changes(1, keys="id")
    old = {"id": 1, "x": "a", "before": None}
    assert sides(changes) == [
        ("added", None, {"id": 4, "x": "d", "before": None}),
        ("added", None, {"id": 5, "x": "<e>", "before": [5]}),
        ("changed", {"id": 2, "x": "b", "before": None}, {"id": 2, "x": "B", "before": None}),
        ("removed", old, None),
    ]
    assert sides(pickle.loads(pickle.dumps(changes))) == sides(changes)
    assert str(changes).splitlines() == ["v1 -> v4: +2 -1 ~1 rows", "+ column before: list<item: int64>"]
    assert "v1 -&gt; v4" in changes._repr_html_()
    assert "list&lt;item: int64&gt;" in changes._repr_html_()
    assert [row[0] for row in sides(Dataset("rows").changes(1))] == ["added", "added", "added", "removed", "removed"]
    Dataset("rows").restore(1)
    assert Dataset("rows").changes(1).rows().count() == 0
    assert len(sides(Dataset("rows").changes(4, keys="id"))) == 4
    assert [row[0] for row in sides(Dataset("rows", version=1).changes())] == ["added"] * 3
    with pytest.raises(UnsupportedError):
        Changes(None, 1, 0, 0).rows()


def test_values_in_column_files_and_of_files_change() -> None:
    table = Table.create("keyed", key_schema={"id": pa.int64()})
    table.write({"id": [1, 2], "x": [1, 2]})
    table.enrich({"y": table["x"] * 2}, where="id = 2").apply()
    assert sides(Dataset("keyed").changes(2, keys="id")) == [
        ("changed", {"id": 2, "x": 2, "y": None}, {"id": 2, "x": 2, "y": 4})
    ]
    kinds = pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False),
            ("half", pa.float16()),
            ("small", pa.uint8()),
            ("vector", pa.list_(pa.float32(), 2)),
            ("nested", pa.struct([("a", pa.binary())])),
        ]
    )
    rows = {
        "id": [1, 2],
        "half": [1.5, None],
        "small": [255, 0],
        "vector": [[1, 2], None],
        "nested": [{"a": b"\0"}, None],
    }
    Dataset.from_dict(rows, schema=kinds).save("kinds")
    Dataset("kinds").delete_rows("id == 1")
    Dataset.from_dict({**rows, "small": [254, 1]}, schema=kinds).upsert_into("kinds", keys="id")
    after = {name: values[0] for name, values in rows.items()} | {"small": 254}
    changed = sides(Dataset("kinds").changes(1, keys="id"))
    assert [row[0] for row in changed] == ["changed", "changed"]
    assert after in [row[2] for row in changed]
    assert Dataset("kinds").changes(1, keys="id").rows().schema.field("after").type.field("small").type == pa.uint8()


@pytest.mark.soak
@given(
    before=st.dictionaries(st.integers(0, 6), st.integers(0, 2), min_size=1),
    after=st.dictionaries(st.integers(0, 6), st.integers(0, 2)),
)
def test_counts_and_rows_agree(before: dict[int, int], after: dict[int, int]) -> None:
    schema = pa.schema([("id", pa.int64()), ("x", pa.int64())])

    def rows(values: dict[int, int]) -> Dataset:
        return Dataset.from_dict({"id": list(values), "x": list(values.values())}, schema=schema)

    written = rows(before).save("drawn", if_exists="new_version")
    newer = rows(after).save("drawn", if_exists="new_version")
    changes = newer.changes(written.version, keys="id")
    same = {key for key in before.keys() & after.keys() if before[key] == after[key]}
    expected = {("removed", key, None) for key in before.keys() - after.keys()}
    expected |= {("added", None, key) for key in after.keys() - before.keys()}
    expected |= {("changed", key, key) for key in (before.keys() & after.keys()) - same}
    found = {(kind, old and old["id"], new and new["id"]) for kind, old, new in sides(changes)}
    assert found == expected
    assert (changes.added, changes.removed, changes.changed) == tuple(
        sum(each[0] == kind for each in expected) for kind in ("added", "removed", "changed")
    )
