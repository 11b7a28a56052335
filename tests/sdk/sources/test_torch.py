"""M18: PyTorch datasets of both kinds."""

from __future__ import annotations

import pickle
from collections import namedtuple
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.errors import InvalidArgumentError, SchemaError, TransformError, TypeMismatchError

torch = pytest.importorskip("torch")
data = torch.utils.data

SCHEMA = pa.schema({"x": pa.list_(pa.float32(), 3), "y": pa.int64()})


class Pairs:
    """Map-style, without torch's base class."""

    def __init__(self, rows: int = 1000) -> None:
        self.rows = rows
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, place: int) -> Any:
        self.asked.append(place)
        return torch.full((3,), float(place)), place


class Stream(data.IterableDataset):  # type: ignore[misc, name-defined]  # torch may be missing
    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[Any]:
        for n in range(self.rows):
            yield {"y": np.int64(n), "x": np.full(3, n, "float32")}


@pytest.mark.parametrize("made", [Pairs(1000), Stream(1000)], ids=["map", "iterable"])
def test_all_rows_in_order_every_time(made: Any) -> None:
    dataset = Dataset.from_torch(made, schema=SCHEMA)
    for _ in range(2):
        table = dataset.to_arrow()
        assert table.schema == SCHEMA
        assert table["y"].to_pylist() == list(range(1000))
        assert table["x"].to_pylist()[7] == [7.0, 7.0, 7.0]
    assert dataset.select(["y"]).filter("y >= 998").to_arrow().to_pylist() == [{"y": 998}, {"y": 999}]
    assert dataset.count() == 1000


def test_only_what_is_needed_is_asked_for() -> None:
    made = Pairs(1000)
    dataset = Dataset.from_torch(made, schema=SCHEMA)
    assert len(dataset) == 1000
    assert not made.asked
    assert [row["y"] for row in dataset.slice(500, 503)] == [500, 501, 502]
    assert made.asked == [500, 501, 502]


def test_samples_of_every_kind() -> None:
    point = namedtuple("point", "a b")
    tensors = [torch.tensor(1, dtype=torch.int8), torch.tensor([1.5, 2.5], dtype=torch.bfloat16)]
    kinds: list[tuple[Any, pa.Schema, Any]] = [
        (5, pa.schema({"v": pa.int64()}), {"v": 5}),
        (torch.tensor(5), pa.schema({"v": pa.int64()}), {"v": 5}),
        (np.float32(0.5), pa.schema({"v": pa.float32()}), {"v": 0.5}),
        (torch.ones(2, 2), pa.schema({"v": pa.list_(pa.list_(pa.float32(), 2), 2)}), {"v": [[1.0, 1.0], [1.0, 1.0]]}),
        (torch.ones(2, 2), pa.schema({"v": pa.list_(pa.list_(pa.int32()))}), {"v": [[1, 1], [1, 1]]}),
        ("text", pa.schema({"v": pa.string()}), {"v": "text"}),
        (b"bytes", pa.schema({"v": pa.binary()}), {"v": b"bytes"}),
        (point(1, "x"), pa.schema({"p": pa.int64(), "q": pa.string()}), {"p": 1, "q": "x"}),
        ([1, None], pa.schema({"p": pa.int64(), "q": pa.string()}), {"p": 1, "q": None}),
        ({"q": True, "p": [1, 2]}, pa.schema({"p": pa.list_(pa.int64()), "q": pa.bool_()}), {"p": [1, 2], "q": True}),
        (tuple(tensors), pa.schema({"p": pa.int64(), "q": pa.list_(pa.float32(), 2)}), {"p": 1, "q": [1.5, 2.5]}),
    ]
    for sample, schema, row in kinds:
        assert Dataset.from_torch([sample, sample], schema=schema).to_arrow().to_pylist() == [row, row]


def test_tensor_datasets_and_wrappers() -> None:
    base = data.TensorDataset(torch.arange(30.0).reshape(10, 3), torch.arange(10))
    assert Dataset.from_torch(base, schema=SCHEMA).to_arrow()["y"].to_pylist() == list(range(10))
    part = Dataset.from_torch(data.Subset(base, [3, 1]), schema=SCHEMA)
    assert part.to_arrow()["y"].to_pylist() == [3, 1]
    assert len(Dataset.from_torch(data.ConcatDataset([base, base]), schema=SCHEMA)) == 20


def test_a_schema_is_needed() -> None:
    with pytest.raises(SchemaError, match="schema="):
        Dataset.from_torch(Pairs())
    with pytest.raises(TypeMismatchError):
        Dataset.from_torch(Pairs(), schema="x")  # type: ignore[arg-type]
    for bad in (5, None, iter([1])):
        with pytest.raises(InvalidArgumentError, match="from_torch takes"):
            Dataset.from_torch(bad, schema=SCHEMA)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ((1, 2, 3), "sample 0 has 3 parts.*2 columns, 'x', 'y'"),
        ({"x": [1, 2, 3]}, "sample 0 has keys 'x'"),
        ({"x": [1, 2, 3], "y": 1, "z": 1}, "sample 0 has keys 'x', 'y', 'z'"),
        ((torch.ones(2), 1), "column 'x'"),
        ((torch.ones(3), "word"), "column 'y'"),
        ((torch.ones(3), 0.5), "column 'y'"),
    ],
)
def test_samples_that_do_not_fit(sample: Any, message: str) -> None:
    with pytest.raises(TransformError, match=message):
        Dataset.from_torch([sample], schema=SCHEMA).to_arrow()


def test_null_where_it_must_not_be() -> None:
    schema = pa.schema([pa.field("v", pa.int64(), nullable=False)])
    with pytest.raises(TransformError, match="'v' has None"):
        Dataset.from_torch([(1,), (None,)], schema=schema).to_arrow()


def test_one_that_is_its_own_iterator_is_refused_when_it_is_used_up() -> None:
    class Once(data.IterableDataset):  # type: ignore[misc, name-defined]  # torch may be missing
        def __init__(self) -> None:
            self.left = 3

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> int:
            if not self.left:
                raise StopIteration
            self.left -= 1
            return self.left

    dataset = Dataset.from_torch(Once(), schema=pa.schema({"v": pa.int64()}))
    assert dataset.count() == 3
    with pytest.raises(TransformError, match="its own iterator"):
        dataset.count()


def test_identity_and_pickles() -> None:
    def identity(made: Any) -> str:
        text: str = Dataset.from_torch(made, schema=SCHEMA)._plan.source.identity  # type: ignore[attr-defined]
        return text

    zeros, ones = (data.TensorDataset(torch.full((4, 3), v), torch.arange(4)) for v in (0.0, 1.0))
    assert identity(zeros) == identity(data.TensorDataset(torch.zeros(4, 3), torch.arange(4)))
    assert len({identity(zeros), identity(ones), identity(Pairs(4)), identity(Pairs(5)), identity(Stream(4))}) == 5
    assert identity(data.Subset(zeros, [0])) != identity(data.Subset(zeros, [1]))
    again = pickle.loads(pickle.dumps(Dataset.from_torch(zeros, schema=SCHEMA)))
    assert again.to_arrow()["y"].to_pylist() == [0, 1, 2, 3]


@pytest.mark.parametrize("made", [Pairs(500), Stream(500)], ids=["map", "iterable"])
def test_shuffled_into_a_loader_and_saved(made: Any) -> None:
    dataset = Dataset.from_torch(made, schema=SCHEMA)
    seen = [n for batch in dataset.shuffle(seed=1).to_torch(batch_size=64) for n in batch["y"].tolist()]
    assert seen != sorted(seen)
    assert sorted(seen) == list(range(500))
    saved = dataset.save("pairs")
    assert saved.schema == SCHEMA
    assert saved.to_tensors()["x"].shape == (500, 3)
