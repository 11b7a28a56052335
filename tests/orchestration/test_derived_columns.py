"""A routine that derives columns of its source, as an asset: it runs for new rows, and the graph has no circle."""

from __future__ import annotations

import pyarrow as pa
import pytest
from dagster import DagsterInstance

from dataset_assets.asset_keys import dataset_key, routine_key
from dataset_assets.routine import routine
from lakefeed import Dataset, Table
from tests.orchestration.daemon import Dagster

pytestmark = pytest.mark.usefixtures("lake")


@routine(on="photos", into="photos", columns=["double"])
def double(rows: Dataset) -> Dataset:
    """Doubles x."""
    return rows.with_column("double", "x * 2").select(["id", "double"])


@pytest.mark.live
def test_columns_stay_up_to_date_and_the_lineage_has_no_circle() -> None:
    table = Table.create("photos", key_schema={"id": pa.int64()})
    table.write({"id": [1, 2], "x": [1, 2]})
    with DagsterInstance.ephemeral() as instance:
        dagster = Dagster(instance, double)
        dagster.work()
        table.write({"id": [2, 3], "x": [20, 30]})
        dagster.work()
        assert table.scan("double").to_table()["double"].to_pylist() == [2, 40, 60]
        graph = dagster.definitions().resolve_asset_graph()
        assert graph.get(routine_key("double")).parent_keys == {dataset_key("photos")}
        assert graph.get(dataset_key("photos")).parent_keys == set()
        reported = dagster.reported(routine_key("double"))
        assert [facts["rows_out"] for facts in reported.values() if facts["rows_in"]] == [2, 2]
        assert "double" in str(graph.get(routine_key("double")).description)
