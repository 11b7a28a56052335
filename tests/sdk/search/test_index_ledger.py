"""Ledgers of indexes where there are many."""

from __future__ import annotations

from typing import Any

import pytest

from lakefeed.catalog import Lake
from lakefeed.catalog.hidden_tables import HiddenTables
from lakefeed.errors import IndexNotFoundError
from lakefeed.search import index_ledger
from lakefeed.search.index_definition import IndexDefinition
from lakefeed.search.index_ledger import IndexLedger, find_index


def test_the_error_for_a_missing_index_names_a_few_that_exist(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_ledger, "SHOWN_INDEXES", 2)
    with pytest.raises(IndexNotFoundError, match="There are no indexes"):
        find_index(lake, "nope")
    for number in range(4):
        IndexLedger(lake, IndexDefinition(f"i{number}", "text", "t", "uuid", {})).create()
        if number == 1:
            with pytest.raises(IndexNotFoundError, match="The indexes are 'i0', 'i1'"):
                find_index(lake, "nope")
    loaded, load = list[str](), HiddenTables.table

    def counted(tables: HiddenTables, name: str) -> Any:
        loaded.append(name)
        return load(tables, name)

    monkeypatch.setattr(HiddenTables, "table", counted)
    with pytest.raises(IndexNotFoundError, match=r"Among the 4 indexes are 'i\d', 'i\d'; list_indexes\(\) gives all"):
        find_index(lake, "nope")
    assert len(loaded) == 3  # the missing one and two others, though there may be thousands
