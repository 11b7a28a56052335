"""Queries of the registry: lookups, order, search, and records by uid."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import update

from lakefeed import Dataset, Provenance
from lakefeed.catalog.commit import create
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import LABEL
from lakefeed.catalog.properties import RECORD as RECORD_ENTRY
from lakefeed.config import Settings
from lakefeed.errors import InvalidArgumentError, MultipleRecordsError, RecordNotFoundError
from lakefeed.records.record_query import Query
from lakefeed.records.record_registry import Registry
from lakefeed.records.record_tables import RECORD, RUN, TRANSFORM
from lakefeed.records.visible_rows import Visibility

SCHEMA = pa.schema([("x", pa.int64())])


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    lake = Lake(Settings(home=tmp_path_factory.mktemp("lake")))
    batch = pa.record_batch({"x": [1, 2, 3]}, SCHEMA)
    texts = {"name": "Ärzte 100% Iris", "description": "Flowers"}
    record = json.dumps({**texts, "labels": ["red", "Old"], "feature_sets": {"columns": ["x"]}})
    create(lake, "iris", SCHEMA, [batch], provenance=Provenance(run="r1", user="ann"), facts={RECORD_ENTRY: record})
    lake_save(lake, "iris", run="r2")
    create(lake, "other", SCHEMA, [batch], facts={LABEL: "1.0.0", RECORD_ENTRY: '{"labels": ["red"]}'})
    create(lake, "team.hidden", SCHEMA, [], facts={RECORD_ENTRY: '{"name": "Iris"}'})
    registry = Registry(lake)
    registry.catch_up()
    with registry.write() as connection:
        connection.execute(update(RECORD).where(RECORD.c.table == "hidden").values(visibility=1))
        uid = registry_run(connection)
        connection.execute(update(RUN).where(RUN.c.uid == uid).values(transform="t" * 20))
        row = {"uid": "t" * 20, "key": "train.py", "created": 0, "updated": 0}
        connection.execute(TRANSFORM.insert().values(**row))
    return registry


def registry_run(connection: Any) -> str:
    return str(connection.scalar(RUN.select().with_only_columns(RUN.c.uid).where(RUN.c.external == "r1")))


def lake_save(lake: Lake, name: str, run: str) -> None:
    from lakefeed.catalog.commit import append

    batch = pa.record_batch({"x": [4]}, SCHEMA)
    append(lake, name, [batch], schema=SCHEMA, provenance=Provenance(run=run, user="bob"))


def shown(query: Query[Any]) -> list[str]:
    return sorted(f"{row.dataset.rpartition('.')[2]}@{row.version}" for row in query.all())


def test_lookups(registry: Registry) -> None:
    query = registry.query()
    newest = query.filter(dataset="iris").order_by("-revision").first()
    assert newest is not None
    both = ["iris@1", "iris@2"]
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({}, [*both, "other@1.0.0"]),
        ({"visibility": None}, ["hidden@1", *both, "other@1.0.0"]),
        ({"visibility": Visibility.HIDDEN}, ["hidden@1"]),
        ({"visibility__in": ["default", 1]}, ["hidden@1", *both, "other@1.0.0"]),
        ({"visibility": "gone"}, []),
        ({"latest": True}, ["iris@2", "other@1.0.0"]),
        ({"name": "iris"}, ["iris@2"]),
        ({"name__contains": "zte 100% I"}, ["iris@1"]),
        ({"name__contains": "ZTE"}, []),
        ({"name__startswith": "Ä"}, ["iris@1"]),
        ({"name__startswith": "i"}, ["iris@2"]),
        ({"name__in": ["other", "none"]}, ["other@1.0.0"]),
        ({"name__in": []}, []),
        ({"description__isnull": True}, ["iris@2", "other@1.0.0"]),
        ({"description": None, "dataset": "default.iris"}, ["iris@2"]),
        ({"description__in": [None, "Flowers"], "created_by": "ann"}, ["iris@1"]),
        ({"rows__gt": 3}, ["iris@2"]),
        ({"rows__gte": 3, "rows__lt": 4}, ["iris@1", "other@1.0.0"]),
        ({"rows__lte": 3, "version": "1.0.0"}, ["other@1.0.0"]),
        ({"created_at__gte": "2020-01-01"}, [*both, "other@1.0.0"]),
        ({"created_at__lt": dt.date(2020, 1, 1)}, []),
        ({"created_at": newest.created_at, "dataset": "iris", "revision": 2}, ["iris@2"]),
        ({"kind": "dataset", "stem": newest.stem}, both),
        ({"kind": "tree"}, []),
        ({"labels": "red"}, ["iris@1", "other@1.0.0"]),
        ({"ulabels": ["red", "Old"]}, ["iris@1"]),
        ({"labels__in": ["Old", "none"]}, ["iris@1"]),
        ({"labels__isnull": True}, ["iris@2"]),
        ({"labels": registry.labels.filter(name="Old").one()}, ["iris@1"]),
        ({"feature": "x"}, ["iris@1"]),
        ({"feature_sets": registry.feature_sets.filter(feature="x").one()}, ["iris@1"]),
        ({"run": "r2"}, ["iris@2"]),
        ({"run": registry.runs.filter(external="r1").one()}, ["iris@1"]),
        ({"run__isnull": True}, ["other@1.0.0"]),
        ({"transform": "train.py"}, ["iris@1"]),
        ({"transform": None}, ["iris@2", "other@1.0.0"]),
        ({"input_of": "r1"}, []),
    ]
    for lookups, expected in cases:
        found = query.filter(**lookups)
        assert (shown(found), found.count()) == (expected, len(expected)), lookups
    assert shown(query.filter(labels="red").filter(latest=True)) == ["other@1.0.0"]


@pytest.mark.parametrize(
    ("lookups", "message"),
    [
        ({"nam": 1}, "did you mean 'name'"),
        ({"name__contain": "x"}, "did you mean 'name__contains'"),
        ({"labels__contains": "x"}, "'exact', 'in', 'isnull'"),
        ({"visibility": "trashed"}, "choose from 'default', 'hidden', 'trash'"),
        ({"visibility__gt": 1}, "'exact' and 'in'"),
        ({"rows": "many"}, "whole number"),
        ({"name": 3}, "name"),
        ({"name__in": "x"}, "list"),
        ({"name__isnull": 1}, "True or False"),
        ({"latest": "yes"}, "True or False"),
        ({"created_at__gt": "yesterday"}, "datetime"),
        ({"rows__contains": "x"}, "text"),
        ({"labels": 5}, "uid"),
        ({"name": "\ud800"}, "surrogate"),
        ({"name__contains": "\ud800"}, "surrogate"),
        ({"labels": "\ud800"}, "surrogate"),
    ],
)
def test_wrong_lookups_name_what_exists(registry: Registry, lookups: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"(?i){message}"):
        registry.query().filter(**lookups)


def test_the_only_row_the_first_and_the_order(registry: Registry) -> None:
    query = registry.query().filter(dataset="iris")
    assert [each.revision for each in query.order_by("revision")] == [1, 2]
    assert [each.revision for each in query.order_by("kind", "-revision").limit(1)] == [2]
    assert (len(query), len(query.limit(1)), query.limit(0).all(), query.limit(0).first()) == (2, 1, [], None)
    assert (query.exists(), query.limit(0).exists(), bool(query.filter(name="none"))) == (True, False, False)
    assert query.order_by("revision")[1].revision == query.order_by("revision")[-1].revision == 2
    assert [each.revision for each in query.order_by("revision")[:1]] == [1]
    for wrong, index in ((query, 2), (query, -3), (query.limit(1), 1), (query.limit(0), 0)):
        with pytest.raises(IndexError):
            wrong[index]
    assert query.filter(latest=True).one().revision == 2
    assert query.filter(name="none").one_or_none() is None
    with pytest.raises(RecordNotFoundError):
        query.filter(name="none").one()
    with pytest.raises(MultipleRecordsError, match=query.order_by("-created")[0].uid):
        query.one()
    with pytest.raises(InvalidArgumentError, match="revision"):
        query.order_by("-revison")
    with pytest.raises(InvalidArgumentError, match="rows"):
        query.limit(-1)
    assert list(query.filter(latest=True).df()["rows"]) == [4]


def test_search_ranks_names_and_ignores_case(registry: Registry) -> None:
    with_hidden = registry.query().filter(visibility=None)
    assert [each.name for each in with_hidden.search("IRIS")] == ["Iris", "iris", "Ärzte 100% Iris"]
    assert shown(with_hidden.search("ärzte flow")) == ["iris@1"]
    assert shown(with_hidden.search("old iris")) == ["iris@1"]
    assert shown(with_hidden.search("1.0.0 red")) == ["other@1.0.0"]
    assert shown(with_hidden.search("100%")) == ["iris@1"]
    assert shown(with_hidden.search("100_")) == []
    assert [each.name for each in registry.labels.search("OL")] == ["Old"]
    with pytest.raises(InvalidArgumentError):
        with_hidden.search(3)  # type: ignore[arg-type]


def test_records_by_uid_stem_and_prefix(registry: Registry) -> None:
    first, second = registry.query().filter(dataset="iris").order_by("revision")
    assert registry.get(first.uid) == first
    assert registry.get(first.stem) == registry.get(first.uid[:12]) == second
    hidden = registry.query().filter(visibility="hidden").one()
    assert registry.get(hidden.uid).visibility is Visibility.HIDDEN
    with pytest.raises(RecordNotFoundError, match=second.uid):
        registry.get("iris")
    with pytest.raises(RecordNotFoundError):
        registry.get(first.uid, kind="file")
    with pytest.raises(InvalidArgumentError):
        registry.get("")
    with pytest.raises(InvalidArgumentError, match="dataset"):
        registry.query("datasets")
    Dataset("iris")  # the names of datasets are not uids
