"""M16: batches from a factory, over what people return from one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.errors import InvalidArgumentError, TransformError

SCHEMA = pa.schema({"x": pa.int64()})
BATCHES = [pa.record_batch({"x": [n, n + 1]}) for n in range(0, 10, 2)]


def generated() -> Iterator[pa.RecordBatch]:
    yield from BATCHES


FACTORIES: dict[str, Callable[[], Any]] = {
    "a generator": generated,
    "a list": lambda: list(BATCHES),
    "a reader": lambda: pa.RecordBatchReader.from_batches(SCHEMA, BATCHES),
}


@pytest.mark.parametrize("kind", FACTORIES)
def test_the_factory_is_called_again_for_every_pass(kind: str) -> None:
    calls = []

    def factory() -> Any:
        calls.append(1)
        return FACTORIES[kind]()

    dataset = Dataset.from_batches(factory, schema=SCHEMA)
    assert not calls
    for _ in range(2):
        assert [row["x"] for row in dataset.filter("x != 3")] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert len(calls) == 2
    assert dataset.save("made").append_to("made").count() == 20


def test_what_is_empty_after_one_pass_is_refused_with_advice() -> None:
    with pytest.raises(InvalidArgumentError, match=r"from_batches needs a function.*lambda"):
        Dataset.from_batches(generated(), schema=SCHEMA)  # type: ignore[arg-type]
    once = generated()
    dataset = Dataset.from_batches(lambda: once, schema=SCHEMA)
    assert dataset.count() == 10
    with pytest.raises(TransformError, match="must return a new one"):
        dataset.count()
