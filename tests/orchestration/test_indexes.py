"""Indexes in Dagster: assets downstream of their tables, which a sensor creates and keeps up to date."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
import pytest
from dagster import DagsterInstance

from dataset_assets.asset_keys import dataset_key
from dataset_assets.index import IndexSpec, index_key, text_index, vector_index
from lakefeed import connect
from lakefeed.expressions import text, vector
from resources.catalog_resource import CatalogResource, TableState
from sensors import indexes_sensor
from tests.orchestration.daemon import Dagster

pytestmark = pytest.mark.usefixtures("lake")


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as fresh:
        yield fresh


@pytest.mark.live
def test_indexes_follow_their_table(instance: DagsterInstance) -> None:
    captions = text_index("captions", on="pages", fields={"caption": "en_stem"}, filters=["n"], owners=["team:web"])
    nearest = vector_index("nearest", on="pages", column="emb")
    dagster = Dagster(instance, captions, nearest)
    assert dagster.tick("indexes") == []  # the table is missing
    client = connect()
    table = client.create_table("pages", key_schema={"id": pa.int64()})
    table.write({"id": [1, 2], "caption": ["black cats", "a dog"], "n": [1, 2], "emb": [[1.0, 0.0], [0.0, 1.0]]})
    dagster.work()
    asset = dagster.definitions().resolve_asset_graph().get(index_key("captions"))
    assert (set(asset.parent_keys), asset.group_name) == ({dataset_key("pages")}, "web")
    index = client.text_index("captions")
    assert (index.version, client.index("nearest").version) == (2, 2)
    assert client.search(9, text.find(index["caption"], "cat")).read_all()["id"].to_pylist() == [1]
    near = vector.nearest(client.index("nearest")["emb"], [0, 1])
    assert client.search(1, near).read_all()["id"].to_pylist() == [2]
    assert dagster.reported(index_key("captions"))[None] == {"version": "v2", "fields": "caption, n"}
    assert dagster.tick("indexes") == []

    table.write({"id": [3], "caption": ["one more cat"]})
    dagster.work()
    assert index.version == 3
    client.drop_index("captions")
    table.write({"id": [4], "caption": ["the fourth cat"]})
    dagster.work()
    assert (index.version, client.index("nearest").version) == (4, 4)

    changed = Dagster(instance, replace(captions, filters=()), nearest)
    changed.work()
    assert client.index("captions").fields == ["caption"]


def test_a_tick_looks_at_a_table_once_and_at_no_more_indexes_than_it_may_refresh(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensors.run_requests.MAX_UNFINISHED_RUNS", 2)
    looked, state, version = [], CatalogResource.state, indexes_sensor.indexed_version

    def counted_state(catalog: CatalogResource, name: str) -> TableState | None:
        looked.append(name)
        return state(catalog, name)

    def counted_version(declared: IndexSpec) -> int | None:
        looked.append(declared.name)
        return version(declared)

    monkeypatch.setattr(CatalogResource, "state", counted_state)
    monkeypatch.setattr(indexes_sensor, "indexed_version", counted_version)
    connect().create_table("pages", key_schema={"id": pa.int64()}).write({"id": [1], "caption": ["a cat"]})
    dagster = Dagster(instance, *(text_index(f"i{number}", on="pages", fields=["caption"]) for number in range(4)))
    assert len(dagster.tick("indexes")) == 2
    assert looked == ["pages", "i0", "i1"]
