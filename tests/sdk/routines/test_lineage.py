"""What the columns of an output are made of, as far as the plan tells."""

from __future__ import annotations

import pyarrow as pa
import pytest

from lakefeed import Dataset, concatenate
from lakefeed.routines import Routine, column_lineage, history, run_versions, skip

pytestmark = pytest.mark.usefixtures("lake")
X = ("photos", "x")


@pytest.fixture
def photos() -> Dataset:
    Dataset.from_dict({"id": [1, 2], "x": [1, 2], "y": [3, 4]}).save("photos")
    Dataset.from_dict({"id": [1], "y": [5], "z": [6]}).save("words")
    return Dataset("photos")


def test_columns_that_are_chosen_renamed_and_computed(photos: Dataset) -> None:
    made = photos.filter("y > 3").rename({"x": "a"}).with_column("sum", "a + y").select(["a", "sum"]).shuffle(seed=1)
    assert column_lineage(made) == {"a": [X], "sum": [X, ("photos", "y")]}


def test_new_names_may_be_those_of_other_columns(photos: Dataset) -> None:
    made = photos.rename({"x": "y", "y": "x"}).with_column("y", "y * 2").with_column("one", "1")
    assert column_lineage(made) == {"id": [("photos", "id")], "x": [("photos", "y")], "y": [X], "one": []}


def test_both_sides_of_a_join(photos: Dataset) -> None:
    assert column_lineage(photos.join(Dataset("words"), "id")) == {
        "id": [("photos", "id"), ("words", "id")],
        "x": [X],
        "y": [("photos", "y")],
        "y_right": [("words", "y")],
        "z": [("words", "z")],
    }


def test_rows_of_several_datasets(photos: Dataset) -> None:
    made = concatenate([photos.select(["x"]), Dataset("words").rename({"z": "x"}).select(["x"])])
    assert column_lineage(made) == {"x": [X, ("words", "z")]}


def test_what_a_function_makes_is_not_known(photos: Dataset) -> None:
    def doubled(batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch

    assert column_lineage(photos.map_batches(doubled, schema=photos.schema).with_column("one", "1")) == {"one": []}
    assert column_lineage(photos.sql("SELECT x FROM data")) == {}
    assert column_lineage(concatenate([photos.select(["x"]), Dataset.from_dict({"x": [1]})])) == {}


def test_a_plan_of_a_thousand_operations(photos: Dataset) -> None:
    made = photos
    for _ in range(1_000):
        made = made.with_column("x", "x + 1")
    assert column_lineage(made)["x"] == [X]


def test_the_history_says_it_and_the_output_only_once(photos: Dataset) -> None:
    routine = Routine("copy", lambda rows: rows.select(["x"]), "photos", "copies")
    list(run_versions(routine))
    for value in (7, 8):
        Dataset.from_dict({"id": [value], "x": [value], "y": [value]}).append_to("photos")
        list(run_versions(routine))
    assert [result.lineage for result in history(routine)] == [{"x": [X]}] * 3
    said = [version.work is not None and "columns" in version.work for version in Dataset("copies").list_versions()]
    assert said == [False, False, True]


def test_a_function_that_changes_changes_it(photos: Dataset) -> None:
    list(run_versions(Routine("copy", lambda rows: rows.select(["x"]), "photos", "copies")))
    Dataset.from_dict({"id": [7], "x": [7], "y": [7]}).append_to("photos")
    Dataset.from_dict({"id": [8], "x": [8], "y": [8]}).append_to("photos")
    changed = Routine("copy", lambda rows: rows.select(["x"]).to_arrow(), "photos", "copies")
    skip(changed, 2, "not wanted")
    list(run_versions(changed))
    assert [result.lineage for result in history(changed)] == [{"x": [X]}, {"x": [X]}, {}]
