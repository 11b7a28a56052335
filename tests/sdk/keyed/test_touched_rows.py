"""The rows that changed between two versions, also by column files."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakefeed import Dataset, Table
from lakefeed.catalog import Lake, resolve
from lakefeed.catalog.schema import snapshot_schema
from lakefeed.errors import InvalidArgumentError, VersionNotFoundError
from lakefeed.run.touched_rows import touched_keys
from tests.sdk.keyed.test_column_files import stored, table

assert table


def touched(after: int | None, until: int | None = None, columns: list[str] | None = None) -> list[int]:
    """The keys that were told, each once."""
    batches = touched_keys(Lake.current(), "photos", after, until, columns)
    return sorted({key for batch in batches for key in batch.column("id").to_pylist()})


def column_ids(version: int) -> dict[str, int]:
    """The ids of the columns of a version."""
    now = Lake.current().table("photos")
    fields = snapshot_schema(now, resolve(now, version).snapshot_id).fields
    return {field.name: field.field_id for field in fields}


def changed(after: int, until: int | None = None) -> tuple[int, int, int | None]:
    """The counts of `Dataset.changes` by key."""
    found = Dataset("photos").changes(after, until, keys="id")
    return found.added, found.removed, found.changed


@pytest.mark.live
def test_changes_and_touched_keys_tell_enrichments_before_and_after_compactions(table: Table) -> None:
    ten = list(range(10))
    table.enrich({"y": table["x"] * 2}, where="id < 10").apply()  # 5
    assert changed(4) == (0, 0, 10)
    assert touched(4) == ten
    assert (Dataset("photos").changes(4).added, Dataset("photos").changes(4).removed) == (10, 10)
    table.enrich({"y": table["x"] * 3}, where="id between 5 and 14").apply()  # 6
    assert (changed(5), touched(5)) == ((0, 0, 10), list(range(5, 15)))
    assert (changed(4), touched(4)) == ((0, 0, 15), list(range(15)))
    table.enrich({"z": table["x"] + 1}, where="id = 20").apply()  # 7
    assert touched(4, None, ["y"]) == list(range(15))
    assert touched(4, None, ["z"]) == touched(6) == [20]
    table.enrich({"y": table["y"]}).apply()  # 8: no value changes
    assert (changed(7), touched(7)) == ((0, 0, 0), [])
    table.delete_keys([3])  # 9
    table.write({"id": [5, 300], "x": [0.5, 1.5]})  # 10
    assert (changed(4), touched(4)) == ((1, 1, 15), [*range(15), 20, 300])
    assert touched(8) == [3, 5, 300]
    assert touched(9, None, ["y"]) == [5, 300]
    table.compact()  # 11
    assert (changed(4), touched(4)) == ((1, 1, 15), [*range(15), 20, 300])
    assert (changed(10), touched(10)) == ((0, 0, 0), [])
    table.enrich({"y": table["x"] * 3}, where="id = 7").apply()  # 12: the value is the same, the column file is not
    table.enrich({"y": table["x"] * 4}, where="id = 8").apply()  # 13
    assert (changed(11), touched(11)) == ((0, 0, 1), [8])
    assert (changed(4, 7), touched(4, 7)) == ((0, 0, 16), [*range(15), 20])
    Dataset("photos").restore(11)  # 14
    assert (changed(13), touched(13)) == ((0, 0, 1), [8])
    assert changed(11) == (0, 0, 0)
    Dataset("photos").restore(4)  # 15: the columns go, the rows come back
    assert touched(14) == [3, 5, 300]
    assert len(touched(None)) == 300


def test_what_touched_keys_refuses_and_versions_that_expired(table: Table) -> None:
    Dataset.from_dict({"a": [1]}).save("plain")
    with pytest.raises(InvalidArgumentError, match="no key"):
        list(touched_keys(Lake.current(), "plain", None))
    with pytest.raises(VersionNotFoundError):
        touched(99)
    table.enrich({"y": table["x"] * 2}, where="id < 3").apply()
    middle = table.snapshot().version
    table.write({"id": [7], "x": [0.0]})
    table.enrich({"y": table["x"]}, where="id = 250").apply()
    snapshots = {each.version: each.snapshot_id for each in Dataset("photos").list_versions()}
    stored().maintenance.expire_snapshots().by_id(snapshots[middle + 1]).commit()
    assert touched(4) == [0, 1, 2, 7, 250]
    assert changed(4) == (0, 0, 5)
    with pytest.raises(VersionNotFoundError):
        touched(middle + 1)


TURNS = [
    pytest.param(1, 9, marks=pytest.mark.live),
    *(pytest.param(seed, 25, marks=pytest.mark.soak) for seed in range(2, 12)),
]


@pytest.mark.parametrize(("seed", "turns"), TURNS)
def test_each_row_that_differs_is_told(home: Path, seed: int, turns: int) -> None:
    chance = random.Random(seed)
    table = Table.create("photos", key_schema={"id": pa.int64()})
    table.write({"id": list(range(30)), "x": [0] * 30, "y": [0] * 30})
    versions: dict[int, dict[int, dict[str, Any]]] = {}

    def remember() -> None:
        rows = table.scan().to_table().to_pylist()
        versions[table.snapshot().version] = {row["id"]: row for row in rows}

    remember()
    for turn in range(1, turns):
        ids = sorted(chance.sample(range(40), chance.randint(1, 20)))
        match chance.choice(["write", "enrich", "enrich", "delete", "compact", "restore"]):
            case "write":
                table.write({"id": ids, chance.choice("xy"): [turn] * len(ids)})
            case "enrich":
                name = chance.choice("yz")
                table.enrich({name: table["x"] + turn}, where=f"id < {ids[-1]}").apply()
            case "delete":
                table.delete_keys(ids)
            case "compact":
                table.compact()
            case "restore":
                Dataset("photos").restore(chance.choice(list(versions)))
        remember()
    numbers = sorted(versions)
    for _ in range(turns):
        first, last = sorted(chance.sample(numbers, 2))
        old, new = versions[first], versions[last]
        columns = next(iter(new.values()), {}).keys()
        values = [{key: [row.get(each) for each in columns] for key, row in rows.items()} for rows in (old, new)]
        differ = {key for key in values[0].keys() | values[1].keys() if values[0].get(key) != values[1].get(key)}
        assert differ <= set(touched(first, last)), (first, last)
        added, removed, both = changed(first, last)
        assert (added, removed) == (len(new.keys() - old.keys()), len(old.keys() - new.keys())), (first, last)
        if column_ids(first).items() <= column_ids(last).items():  # else a column was derived anew as another one
            assert both == len(differ & old.keys() & new.keys()), (first, last)


def test_a_column_that_was_derived_anew_compares_with_its_earlier_values(home: Path) -> None:
    table = Table.create("derived", key_schema={"id": pa.int64()})
    table.write({"id": list(range(12)), "x": list(range(12))})
    table.enrich({"y": table["x"] * 10}).apply()
    before = table.snapshot().version
    table.write({"id": [1, 8], "y": [-1, -8]})
    table.compact()  # now the values lie in the rows, so the next enrichment gives the column another id
    table.enrich({"y": table["x"] * 1000}, where=table["id"] >= 6).apply()
    table.delete_keys([2, 3, 4, 9])  # writes the file again
    changes = Dataset("derived").changes(before, keys="id")
    assert (changes.added, changes.removed, changes.changed) == (0, 4, 6)  # 1, 6, 7, 8, 10 and 11
    plain = Dataset("derived").changes(before)
    assert (plain.added, plain.removed) == (6, 10)
