"""Batches from a function."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.errors import InvalidArgumentError, SchemaError, TransformError, TypeMismatchError
from lakefeed.plan import fingerprint

SCHEMA = pa.schema({"x": pa.int64()})
BATCH = pa.record_batch({"x": [1, 2]})


def numbers() -> Iterator[pa.RecordBatch]:
    yield BATCH
    yield BATCH.slice(0, 0)
    yield pa.record_batch({"x": [3]})


def made(*batches: Any, schema: pa.Schema = SCHEMA) -> Dataset:
    return Dataset.from_batches(lambda: batches, schema=schema)


def test_the_function_is_called_for_each_pass() -> None:
    dataset = Dataset.from_batches(numbers, schema=SCHEMA)
    assert [dataset.to_arrow()["x"].to_pylist() for _ in range(2)] == [[1, 2, 3]] * 2
    assert pickle.loads(pickle.dumps(dataset)).count() == 3


def test_building_does_not_call_it() -> None:
    Dataset.from_batches(lambda: pytest.fail("called"), schema=SCHEMA).filter("x > 1").head(3).explain()


@pytest.mark.parametrize("one_shot", [iter([BATCH]), [BATCH], numbers(), BATCH, None])
def test_what_cannot_be_called_is_refused_with_advice(one_shot: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="Pass a function"):
        Dataset.from_batches(one_shot, schema=SCHEMA)


@pytest.mark.parametrize("one_shot", [iter([BATCH]), numbers()])
def test_a_used_up_iterator_is_noticed(one_shot: Any) -> None:
    dataset = Dataset.from_batches(lambda: one_shot, schema=SCHEMA)
    assert dataset.count() > 0
    with pytest.raises(TransformError, match="the iterator of the previous pass"):
        dataset.count()


def test_stopping_early_ends_the_function() -> None:
    ended = []

    def endless() -> Iterator[pa.RecordBatch]:
        try:
            while True:
                yield BATCH
        finally:
            ended.append(True)

    assert Dataset.from_batches(endless, schema=SCHEMA).head(5).to_arrow().num_rows == 5
    assert ended == [True]


def test_metadata_of_a_batch_does_not_matter() -> None:
    noisy = BATCH.replace_schema_metadata({"k": "v"})
    field = pa.record_batch([BATCH.column(0)], schema=pa.schema([pa.field("x", pa.int64(), metadata={"a": "b"})]))
    table = made(BATCH, noisy, field).to_arrow()
    assert table.schema.equals(SCHEMA, check_metadata=True)
    assert table["x"].to_pylist() == [1, 2] * 3


def test_types_widen_and_columns_may_stand_elsewhere() -> None:
    schema = pa.schema({"y": pa.string(), "x": pa.int64()})
    narrow = pa.record_batch({"x": pa.array([1], pa.int8()), "y": pa.array(["a"]).dictionary_encode()})
    assert made(narrow, schema=schema).to_arrow().to_pylist() == [{"y": "a", "x": 1}]


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (pa.record_batch({"y": [1]}), "columns differ"),
        (pa.record_batch({"x": [1], "y": [2]}), "columns differ"),
        (pa.record_batch([[1], [2]], names=["x", "x"]), "columns differ"),
        (pa.record_batch({"x": ["word"]}), "word"),
        (pa.record_batch({"x": [0.5]}), "truncated"),
        (pa.table({"x": [1]}), r"to_batches\(\)"),
        ({"x": [1]}, "dict"),
    ],
)
def test_batches_that_do_not_fit(batch: Any, message: str) -> None:
    with pytest.raises(TransformError, match=message):
        made(batch).to_arrow()


def test_what_is_no_sequence_of_batches() -> None:
    with pytest.raises(TransformError, match="returned a int"):
        Dataset.from_batches(lambda: 5, schema=SCHEMA).count()  # type: ignore[arg-type, return-value]


def test_nulls_where_there_must_be_none() -> None:
    required = pa.schema([pa.field("x", pa.int64(), nullable=False)])
    with pytest.raises(TransformError, match="'x' has nulls"):
        made(pa.record_batch([pa.array([None], pa.int64())], schema=required), schema=required).to_arrow()


def test_schemas_that_are_none() -> None:
    for schema in (None, {"x": "int64"}, [("x", pa.int64())]):
        with pytest.raises(TypeMismatchError, match=r"pyarrow\.Schema"):
            Dataset.from_batches(numbers, schema=schema)  # type: ignore[arg-type]
    with pytest.raises(SchemaError):
        Dataset.from_batches(numbers, schema=pa.schema([]))


def test_no_batches_at_all() -> None:
    empty = made()
    assert empty.to_arrow().schema == SCHEMA
    assert empty.count() == empty.filter("x > 1").count() == 0
    with pytest.raises(TypeError):
        len(empty)


def test_functions_with_other_arguments_are_other_rows() -> None:
    one, other, again = (Dataset.from_batches(partial(numbers_from, n), schema=SCHEMA)._plan for n in (1, 2, 1))
    assert fingerprint(one) == fingerprint(again) != fingerprint(other)


def numbers_from(start: int) -> list[pa.RecordBatch]:
    return [pa.record_batch({"x": [start]})]
