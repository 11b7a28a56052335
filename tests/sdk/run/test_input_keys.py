"""Keys of input rows: what they find in other rows, against a dict of the same keys."""

from __future__ import annotations

import datetime as dt
import random
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from lakefeed.expr import Bounds
from lakefeed.run.input_keys import InputKeys

TYPES: dict[str, tuple[pa.DataType, Any]] = {
    "int": (pa.int64(), lambda n: n - 20),
    "small int": (pa.int32(), lambda n: n * 1000),
    "text": (pa.string(), lambda n: f"{'ä' * (n % 3)}{n}"),
    "bytes": (pa.binary(), lambda n: bytes([n, 255 - n])),
    "date": (pa.date32(), lambda n: dt.date(1960, 1, 1) + dt.timedelta(n)),
    "time": (pa.timestamp("us", "UTC"), lambda n: dt.datetime(1969, 12, 31, tzinfo=dt.UTC) + dt.timedelta(hours=n)),
    "decimal": (pa.decimal128(20, 2), lambda n: Decimal(n) / 4),
    "bool": (pa.bool_(), lambda n: n % 2 == 0),
}


def column(kind: str, numbers: list[int | None]) -> pa.Array[Any]:
    type_, value = TYPES[kind]
    return pa.array([None if n is None else value(n) for n in numbers], type_)


@pytest.mark.parametrize("kinds", [(kind,) for kind in TYPES] + [("int", "text"), ("text", "bool", "date")], ids=str)
def test_found_keys_are_those_of_a_dict(kinds: tuple[str, ...]) -> None:
    chance = random.Random(str(kinds))
    for _ in range(25):
        numbers = [[chance.randrange(40) for _ in range(chance.randint(1, 12))] for _ in kinds]
        size = min(map(len, numbers))
        given = [column(kind, each[:size]) for kind, each in zip(kinds, numbers, strict=True)]
        rows = list(zip(*(each.to_pylist() for each in given), strict=True))
        keys = InputKeys(given)
        repeated = {rows.index(row) for row in rows if rows.count(row) > 1}
        assert keys.repeated().tolist() == sorted(repeated)
        assert [rows[at] for at in keys.sorted_positions()] == sorted(rows)
        if repeated:
            continue
        present = [[chance.choice([None, *range(40)]) for _ in range(30)] for _ in kinds]
        if chance.random() < 0.5:
            present = [sorted(set(each) - {None}, key=lambda n: n or 0) for each in present]
        size = min(map(len, present))
        there = [column(kind, each[:size]) for kind, each in zip(kinds, present, strict=True)]
        places, positions = keys.find(there)
        expected = [
            (place, rows.index(row))
            for place, row in enumerate(zip(*(each.to_pylist() for each in there), strict=True))
            if row in rows
        ]
        assert sorted(zip(places.tolist(), positions.tolist(), strict=True)) == expected


def test_bounds_exclude_only_what_cannot_be_there() -> None:
    keys = InputKeys([pa.array([5, 9, 20])])
    assert [keys.may_be_in(Bounds(low, high)) for low, high in ((0, 4), (6, 8), (9, 9), (21, 30), (0, 99))] == [
        False, False, True, False, True,
    ]  # fmt: skip
    assert keys.may_be_in(Bounds())
    assert keys.may_be_in(Bounds("a", "b"))
    text = InputKeys([pa.array(["abc", "m"])])
    assert text.may_be_in(Bounds("aa", "ab"))  # the upper bound may be cut
    assert not text.may_be_in(Bounds("n", "z"))
