"""Refreshes that are killed, and several at once: an index has each row of its table exactly once."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pytest

from lakefeed import collect_garbage, connect
from lakefeed.expressions import text
from tests.sdk.killing import AS_OFTEN, finish, killed_at_random
from tests.sdk.test_garbage import age
from tests.sdk.victims import refresh_index, write_and_search

KEYS = 30


@pytest.mark.live
@AS_OFTEN
def test_an_index_is_exact_after_kills_and_beside_other_refreshes(home: Path, kills: int) -> None:
    client = connect()
    table = client.create_table("pages", key_schema={"id": pa.int64()})
    table.write({"id": list(range(KEYS)), "body": ["red"] * KEYS})
    index = client.create_text_index("bodies", text.field(table["body"]))

    def check() -> None:
        rows = table.scan().to_table().to_pylist()
        for word in ("red", "green"):
            hits = client.search(2 * KEYS, text.find(index["body"], word)).read_all()["id"].to_pylist()
            assert sorted(hits) == [row["id"] for row in rows if row["body"] == word]

    killed_at_random(kills, write_and_search, "pages", "bodies", KEYS, longest=1.0)
    check()
    table.write({"id": [0, KEYS], "body": ["green", "green"]})
    before = index.ledger.load().table.metadata.last_sequence_number
    finish(refresh_index, "bodies", processes=3)
    assert index.ledger.load().table.metadata.last_sequence_number == before + 1
    check()
    age(home)
    collect_garbage(dry_run=False, grace=dt.timedelta(0))
    check()
