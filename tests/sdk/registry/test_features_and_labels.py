"""Features, labels, users: declared, linked to records, and found from both sides."""

from __future__ import annotations

import pandas as pd
import pytest

import lakefeed.registry as ln
from lakefeed.catalog.lake import Lake
from lakefeed.errors import InvalidArgumentError, MultipleRecordsError, RecordNotFoundError, ValidationError
from lakefeed.records.record_registry import Registry
from lakefeed.records.record_tables import METADATA

pytestmark = pytest.mark.live  # many lakes


def declare() -> None:
    ln.Feature("height", "float", unit="m").save()
    ln.Feature("species", "category", label_type="Species").save()
    for name in ("cat", "dog"):
        ln.ULabel(name, type="Species").save()


def test_tables_are_validated_and_their_features_are_linked(lake: Lake) -> None:
    declare()
    frame = pd.DataFrame({"height": [0.3, 0.5], "species": ["cat", "dgo"], "other": [1, 2]})
    with pytest.raises(ValidationError, match="in 2 ways") as caught:
        ln.Dataset.from_df(frame, name="pets", strict=True)
    assert [(each.column, each.kind, each.rows) for each in caught.value.problems] == [
        ("species", "value", (1,)),
        ("other", "unknown column", ()),
    ]
    dataset = ln.Dataset.from_df(frame, name="pets")
    assert dataset.problems == caught.value.problems
    assert [feature.name for feature in dataset.feature_sets["columns"].features] == ["height", "species"]
    dataset.save()
    sets = dataset.feature_sets
    assert [feature.name for feature in sets["columns"].features] == ["height", "species"]
    assert ln.Dataset.filter(feature="height").one() == dataset
    assert ln.Dataset.filter(feature=ln.Feature.get("species")).one() == dataset
    assert ln.FeatureSet.filter(feature="height").one() == sets.all()[0]
    assert len(ln.Dataset.filter(feature="other")) == 0
    with pytest.raises(KeyError, match="no slot 'var'"):
        sets["var"]
    ln.Dataset.from_df(frame[["height"]].assign(species="dog"), name="good", strict=True)


def test_features_are_declared_once(lake: Lake) -> None:
    ln.Feature("x", "int").save()
    ln.Feature("x", "float", unit="m", description="a length").save()
    (found,) = ln.Feature.filter()
    assert (found.name, found.dtype, found.unit, found.description) == ("x", "float", "m", "a length")
    assert str(ln.Feature.name) == "Feature.name"
    one, two = ln.FeatureSet(["x", "y"]), ln.FeatureSet([ln.Feature("y"), ln.Feature("x")])
    one.save()
    two.save()
    assert (one, one.n, [each.name for each in two.features]) == (two, 2, ["x", "y"])
    for wrong in ("", 7, None, b"x"):
        with pytest.raises(InvalidArgumentError):
            ln.Feature(wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentError):
            ln.FeatureSet([wrong])
    with pytest.raises(InvalidArgumentError, match="dtype must be one of"):
        ln.Feature("x", "flaot")
    with pytest.raises(InvalidArgumentError, match="field must be"):
        ln.Dataset.from_df(pd.DataFrame({"x": [1]}), field="x", name="x")
    with pytest.raises(AttributeError, match="no field 'untis'"):
        _ = found.untis


def test_labels_have_types(lake: Lake) -> None:
    declare()
    dataset = ln.Dataset(pd.DataFrame({"x": [1]}), name="labelled", labels=["draft"])
    dataset.save()
    cat = ln.ULabel.filter(name="cat", type="Species").one()
    dataset.ulabels.add(cat, "checked")
    assert [(each.type, each.name) for each in dataset.ulabels] == [("", "checked"), ("", "draft"), ("Species", "cat")]
    assert cat in dataset.labels
    assert ln.Dataset.filter(ulabels=cat).one() == dataset
    assert ln.Dataset.filter(ulabels=["cat", "draft"]).one() == dataset
    assert not ln.Dataset.filter(ulabels=["cat", "dog"])
    dataset.ulabels.remove(cat, "gone")
    assert dataset.ulabels.list() == ["checked", "draft"]
    ln.ULabel.filter(name="draft").one().delete()
    assert dataset.ulabels.list() == ["checked"]
    with pytest.raises(RecordNotFoundError):
        ln.ULabel.get("gone")


def test_labels_that_are_given_to_save_are_in_the_commit(lake: Lake) -> None:
    given = [ln.ULabel("cat", type="Species"), ln.ULabel("cat"), "draft", ln.ULabel("m", type="sex")]
    dataset = ln.Dataset(pd.DataFrame({"x": [1]}), name="labelled", labels=given)
    dataset.save()
    expected = [("", "cat"), ("", "draft"), ("Species", "cat"), ("sex", "m")]
    assert [(each.type, each.name) for each in dataset.labels] == expected
    dataset.labels.remove(given[0], "draft")
    ln.Dataset(pd.DataFrame({"x": [2]}), is_new_version_of=dataset).save()
    assert [(each.type, each.name) for each in dataset.labels] == [("", "cat"), ("sex", "m")]  # they do not come back
    with Registry.open(lake).write() as connection:
        METADATA.drop_all(connection)
    assert [(each.type, each.name) for each in dataset.labels] == expected
    assert ln.Dataset.filter(ulabels="draft").one().versions[-1].labels.list() == []


def test_queries_are_lazy_and_name_similar_fields(lake: Lake) -> None:
    query = ln.Dataset.filter(name__startswith="numbers")
    assert (query.count(), query.first(), query.list(), bool(query)) == (0, None, [], False)
    for number in range(3):
        ln.Dataset(pd.DataFrame({"x": [number]}), name=f"numbers {number}").save()
    assert [each.name for each in query.order_by("name")] == ["numbers 0", "numbers 1", "numbers 2"]
    assert [each.name for each in query.order_by("-name").limit(2)] == ["numbers 2", "numbers 1"]
    assert [each.name for each in ln.Dataset.search("NUMBERS 2")] == ["numbers 2"]
    assert query.df()["name"].tolist()[::-1] == ["numbers 0", "numbers 1", "numbers 2"]
    with pytest.raises(MultipleRecordsError, match="several"):
        query.one()
    with pytest.raises(RecordNotFoundError):
        ln.Dataset.filter(name="gone").one()
    with pytest.raises(InvalidArgumentError, match="'name'"):
        ln.Dataset.filter(nmae="x")
    assert ln.User.filter().one().name == ln.Dataset.filter(name="numbers 0").one().created_by.name  # type: ignore[union-attr]
    assert ln.Storage.get(ln.Storage.filter()[0].root).type == "local"
    for kind in (ln.User, ln.Run):
        with pytest.raises(TypeError):
            kind()
