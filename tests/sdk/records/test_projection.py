"""The registry catches up with the lake, whoever wrote the versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import select

from lakefeed import Dataset, Provenance
from lakefeed.catalog.commit import create
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import HASH, INPUTS, LABEL
from lakefeed.catalog.properties import RECORD as RECORD_ENTRY
from lakefeed.catalog.trash import move_to_trash
from lakefeed.catalog.version_uids import version_uid
from lakefeed.config import Settings
from lakefeed.records.record_registry import Registry
from lakefeed.records.record_tables import (
    FEATURE,
    FEATURE_SET_MEMBER,
    INPUT,
    METADATA,
    RECORD,
    RECORD_FEATURE_SET,
    RECORD_LABEL,
    RUN,
    Presence,
)
from lakefeed.records.record_tables import LABEL as LABEL_TABLE
from lakefeed.records.version_rows import run_uid


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("LAKEFEED_HOME", str(tmp_path))
    return Registry.open()


def rows_of(registry: Registry, *columns: str) -> list[tuple[Any, ...]]:
    query = select(*(RECORD.c[name] for name in columns)).order_by(RECORD.c.created, RECORD.c.id)
    return registry.read_current(lambda connection: [tuple(row) for row in connection.execute(query)])


def test_versions_become_records_once(registry: Registry) -> None:
    assert registry.catch_up() == 0
    Dataset.from_dict({"x": [1, 2]}).save("a", "about a", provenance=Provenance(run="r1", user="ann"))
    Dataset.from_dict({"x": [3]}).append_to("a")
    Dataset.from_dict({"x": [3]}).save("team.b")
    assert registry.catch_up() == 2
    assert registry.catch_up() == 0
    assert rows_of(registry, "name", "revision", "n", "label", "latest", "user", "description") == [
        ("a", 1, 2, "1", False, "ann", "about a"),
        ("a", 2, 3, "2", True, rows_of(registry, "user")[1][0], "about a"),
        ("team.b", 1, 1, "1", True, rows_of(registry, "user")[1][0], None),
    ]
    table = Lake.current().table("a")
    assert rows_of(registry, "uid")[1] == (version_uid(table.metadata.table_uuid, 2),)


def test_tables_that_were_dropped_are_filled_again(registry: Registry) -> None:
    Dataset.from_dict({"x": [1]}).save("a")
    before = rows_of(registry, "uid", "name", "latest", "created")
    with registry.write() as connection:
        METADATA.drop_all(connection)
    assert rows_of(Registry(Lake.current()), "uid", "name", "latest", "created") == before
    assert rows_of(registry, "uid", "name", "latest", "created") == before


def test_moves_the_trash_and_deletions_change_no_uid(registry: Registry) -> None:
    Dataset.from_dict({"x": [1]}).save("a")
    Dataset.from_dict({"x": [1]}).append_to("a")
    ((uid, *_), _) = rows_of(registry, "uid", "presence")
    Dataset("a").move("team.c")
    assert {row[:3] for row in rows_of(registry, "name", "namespace", "table")} == {("team.c", "team", "c")}
    assert registry.query().search("team.c").count() == 2
    Dataset("team.c").delete()
    trashed = rows_of(registry, "uid", "presence", "latest", "name")
    assert trashed[0] == (uid, Presence.DATASET_IN_TRASH, False, "team.c")
    Dataset.undelete("team.c")
    assert [row[1:] for row in rows_of(registry, "uid", "presence", "latest")] == [(0, False), (0, True)]
    Dataset("team.c").delete(permanent=True)
    assert {row[0] for row in rows_of(registry, "presence")} == {Presence.GONE}
    Dataset.from_dict({"x": [1]}).save("team.c")
    assert [row[1:] for row in rows_of(registry, "uid", "presence", "revision")] == [(2, 1), (2, 2), (0, 3)]


def test_a_damaged_table_stops_no_other(registry: Registry) -> None:
    Dataset.from_dict({"x": [1]}).save("a")
    Dataset.from_dict({"x": [1]}).save("b")
    registry.catch_up()
    Dataset.from_dict({"x": [1]}).append_to("a")
    location = Path(Lake.current().table("a").metadata_location.removeprefix("file://"))
    content = location.read_bytes()
    location.write_bytes(b"{}")
    Dataset.from_dict({"x": [1]}).append_to("b")
    assert rows_of(registry, "name", "revision") == [("a", 1), ("b", 1), ("b", 2)]
    location.write_bytes(content)
    assert len(rows_of(Registry(Lake.current()), "uid")) == 4


def test_versions_of_other_clients_and_expired_ones(registry: Registry) -> None:
    Dataset.from_dict({"x": [1]}).save("a")
    Dataset.from_dict({"x": [2]}).append_to("a")
    table = Lake.current().catalog.load_table("default.a")
    table.append(pa.table({"x": pa.array([3], pa.int64())}))
    assert rows_of(registry, "revision", "n", "user", "latest")[2] == (3, 3, None, True)
    middle = table.metadata.snapshots[1].snapshot_id
    table.maintenance.expire_snapshots().by_id(middle).commit()
    assert rows_of(registry, "revision", "presence") == [(1, 0), (2, Presence.GONE), (3, 0)]
    table.delete("x == 3")
    assert rows_of(registry, "revision", "n")[3] == (4, 2)
    table.manage_snapshots().rollback_to_snapshot(table.metadata.snapshots[1].snapshot_id).commit()
    rows = rows_of(registry, "revision", "presence", "latest")
    assert rows == [(1, 0, False), (2, 2, False), (3, 0, True), (4, 2, False)]


@pytest.mark.parametrize("kind", ["sql", "in-memory"])
def test_a_registry_beside_another_catalog_catches_up_too(kind: str, tmp_path: Path) -> None:
    own = {"uri": f"sqlite:///{tmp_path}/other.db"}
    lake = Lake(Settings(home=tmp_path, registry=own, catalog={"type": kind}))
    for name in ("a", "team.b"):
        create(lake, name, pa.schema([("x", pa.int64())]), [])
    registry = Registry(lake)
    assert set(rows_of(registry, "name", "presence")) == {("a", 0), ("team.b", 0)}
    move_to_trash(lake, "a")
    lake.drop("team.b")
    assert set(rows_of(registry, "name", "presence")) == {("a", Presence.DATASET_IN_TRASH), ("team.b", Presence.GONE)}


def test_commits_name_runs_inputs_labels_and_features(registry: Registry) -> None:
    Dataset.from_dict({"x": [1]}).save("a")
    table = str(Lake.current().table("a").metadata.table_uuid)
    record = {"name": "My data", "labels": ["blue", "old"], "feature_sets": {"columns": ["x"]}, "reference": "doi:1"}
    inputs = [{"table": table, "version": 1, "plan": "p", "seed": 3}, {"more": 7}, "nonsense", {"table": "no uuid"}]
    facts = {RECORD_ENTRY: json.dumps(record), INPUTS: json.dumps(inputs), LABEL: "1.0", HASH: "h"}
    schema = pa.schema([("x", pa.int64())])
    create(Lake.current(), "b", schema, [], provenance=Provenance(run="dagster:7"), facts=facts)
    create(Lake.current(), "c", schema, [], facts={RECORD_ENTRY: "{", INPUTS: "[1", LABEL: "1.0"})
    _, b, c = rows_of(registry, "uid", "name", "label", "hash", "reference", "run")
    run = run_uid("dagster:7")
    assert b[1:] == ("My data", "1.0", "h", "doi:1", run)
    assert c[1:] == ("c", "1.0", None, None, None)
    with registry.read() as connection:
        assert connection.execute(select(INPUT.c.record, INPUT.c.run, INPUT.c.seed)).all() == [
            (version_uid(table, 1), run, 3)
        ]
        of = select(LABEL_TABLE.c.name).join(RECORD_LABEL, RECORD_LABEL.c.label == LABEL_TABLE.c.uid)
        assert set(connection.scalars(of.where(RECORD_LABEL.c.record == b[0]))) == {"blue", "old"}
        members = select(FEATURE.c.name).join(FEATURE_SET_MEMBER, FEATURE_SET_MEMBER.c.feature == FEATURE.c.uid)
        assert connection.scalars(members).all() == ["x"]
        assert connection.scalar(select(RECORD_FEATURE_SET.c.slot)) == "columns"
        assert connection.execute(select(RUN.c.external, RUN.c.status)).all() == [("dagster:7", "unknown")]
