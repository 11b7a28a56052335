"""A loader in the loops that people and frameworks write."""

from __future__ import annotations

import contextvars
import json
import sqlite3
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lakefeed import Dataset, World, interleave
from lakefeed.errors import InvalidArgumentError, TransformError

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader, default_collate  # noqa: E402

from lakefeed.loaders.torch_loader import TorchLoader  # noqa: E402

X = pa.schema({"x": pa.int64()})
ROWS = 31


def batches_of_rows() -> Iterator[pa.RecordBatch]:
    for start in range(0, ROWS, 6):
        yield pa.record_batch({"x": pa.array(range(start, min(start + 6, ROWS)))})


def stored() -> Dataset:
    return Dataset.from_dict({"x": list(range(ROWS))}).shuffle(7)


def streamed() -> Dataset:
    return Dataset.from_batches(batches_of_rows, schema=X).shuffle(7, global_=False, window=8)


SOURCES: dict[str, Callable[[], Dataset]] = {"stored": stored, "streamed": streamed}


def values(batches: Any) -> list[list[int]]:
    return [batch["x"].tolist() for batch in batches]


def by_next(loader: TorchLoader, steps: int) -> list[list[int]]:
    batches = iter(loader)
    return values(next(batches) for _ in range(steps))


LOOPS: dict[str, Callable[[TorchLoader, int], list[list[int]]]] = {
    "next": by_next,
    "islice": lambda loader, steps: values(islice(loader, steps)),
    "zip": lambda loader, steps: values(batch for _, batch in zip(range(steps), loader, strict=False)),
    "exhausted": lambda loader, steps: values(loader),
}


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("source", SOURCES)
def test_the_last_batch_ends_the_epoch_in_every_loop(source: str, drop_last: bool) -> None:
    """docs/loader.md: "The delivery of its last batch ends an epoch"."""
    prepared = SOURCES[source]()
    whole = prepared.to_torch(batch_size=5, drop_last=drop_last)
    expected = [values(whole) for _ in range(3)]
    steps = len(expected[0])
    for loop in LOOPS.values():
        loader = prepared.to_torch(batch_size=5, drop_last=drop_last)
        assert [loop(loader, steps) for _ in range(3)] == expected
        assert (loader.epoch, loader.state_dict()["position"]) == (3, 0)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_last_batch_of_a_stream_is_known_to_be_the_last(ranks: int) -> None:
    for rows in range(ranks, 4 * ranks + 2):
        for drop_last in (False, True):
            data = Dataset.from_batches(lambda rows=rows: [pa.record_batch({"x": range(rows)}, X)], schema=X)
            for rank in range(ranks):
                loader = data.to_torch(batch_size=2, drop_last=drop_last, world=World(rank, ranks))
                epochs = [loader.epoch for _ in loader]
                assert epochs == [0] * (len(epochs) - 1) + [1] * bool(epochs)
                assert loader.epoch == 1


@pytest.mark.live
@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_loop_over_the_length_has_the_rest_and_then_whole_epochs(workers: int) -> None:
    whole = stored().to_torch(batch_size=4)
    expected = [values(whole) for _ in range(3)]
    first = stored().to_torch(batch_size=4)
    assert values(islice(first, 5)) == expected[0][:5]
    resumed = stored().to_torch(batch_size=4, num_workers=workers)
    resumed.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert len(resumed) == 8
    assert by_next(resumed, 3) == expected[0][5:]
    assert [by_next(resumed, len(resumed)) for _ in range(2)] == expected[1:]


def test_a_peek_keeps_a_loaded_position() -> None:
    """docs/loader.md: "An iteration that was abandoned begins again where it began"."""
    for source in SOURCES.values():
        whole = source().to_torch(batch_size=4)
        expected = values(whole)
        first = source().to_torch(batch_size=4)
        assert values(islice(first, 4)) == expected[:4]
        resumed = source().to_torch(batch_size=4)
        resumed.load_state_dict(first.state_dict())
        assert next(iter(resumed))["x"].tolist() == expected[4]
        assert values(resumed) == expected[4:]


def test_a_state_of_an_older_version_at_the_end_of_its_epoch_begins_the_next_one() -> None:
    loader = stored().to_torch(batch_size=4)
    loader.load_state_dict(loader.state_dict() | {"position": ROWS})
    assert (loader.epoch, len(list(loader))) == (1, 8)


def test_frameworks_see_sizes() -> None:
    """docs/loader.md: "`len(loader.dataset)`, `loader.batch_size` and `loader.drop_last`"."""
    loader = stored().to_torch(batch_size=4, drop_last=True)
    assert (len(loader.dataset), loader.batch_size, loader.drop_last) == (ROWS, 4, True)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="stream"):
        len(streamed().to_torch(batch_size=4).dataset)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="mapped"):
        loader.dataset[0]


@pytest.mark.live
@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataloader_rebuilt_of_the_parts_delivers_the_epochs(workers: int) -> None:
    """As accelerate, Lightning and others build one: of the dataset, the batch sampler and collate_fn."""
    loader = stored().to_torch(batch_size=4)
    expected = [values(loader), values(loader)]
    loader = stored().map(dict, schema=X).to_torch(batch_size=4, num_workers=workers)
    rebuilt = DataLoader(
        loader.dataset,
        batch_sampler=loader.batch_sampler,
        collate_fn=loader.collate_fn,
        num_workers=workers,
    )
    assert (len(rebuilt), [values(rebuilt), values(rebuilt)]) == (8, expected)
    assert loader.state_dict()["epoch"] == 2
    loader.batch_sampler.set_epoch(0)  # type: ignore[union-attr]
    assert values(rebuilt) == expected[0]
    next(iter(rebuilt))
    with pytest.raises(InvalidArgumentError, match="another DataLoader"):
        loader.state_dict()


def stop(*_: Any) -> Any:
    raise StopIteration


class StopsAt:
    """Raises StopIteration at a row."""

    def __init__(self, row: int) -> None:
        self.row = row

    def __call__(self, value: Any) -> Any:
        found = value["x"]
        if self.row in (found.tolist() if hasattr(found, "tolist") else [found]):
            raise StopIteration
        return value

    def __getitem__(self, index: int) -> dict[str, int]:
        return dict(self({"x": index}))

    def __len__(self) -> int:
        return ROWS


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stop_iteration_is_an_error(workers: int) -> None:
    """docs/loader.md: "A StopIteration out of a function does not end an epoch"."""
    rows = Dataset.from_dict({"x": list(range(ROWS))})
    stops = StopsAt(13)
    loaders = [
        rows.map(stops, schema=X).to_torch(batch_size=4, num_workers=workers),
        rows.map(stops, schema=X).filter("x >= 0").to_torch(batch_size=4, num_workers=workers),
        rows.to_torch(batch_size=4, num_workers=workers, collate_fn=stops),
        Dataset.from_batches(batches_of_rows, schema=X).to_torch(batch_size=4, num_workers=workers, collate_fn=stops),
        Dataset.from_torch(stops, schema=X).to_torch(batch_size=4, num_workers=workers),
    ]
    for loader in loaders:
        with pytest.raises(TransformError, match="StopIteration"):
            list(loader)


def test_batches_have_memory_of_their_own() -> None:
    """docs/loader.md: "Batches are the caller's own"."""
    returned = pa.array([1.0] * 64)
    rows = Dataset.from_dict({"x": [float(x) for x in range(64)], "r": [[x] for x in range(64)]})
    plans = {
        "column of another": rows.with_column("target", "x"),
        "column of another, shuffled": rows.with_column("target", "x").shuffle(1),
        "lists": rows.with_column("again", "r"),
        "returned": rows.map_batches(
            lambda batch: pa.record_batch({"x": returned}), schema=pa.schema({"x": pa.float64()})
        ),
        "windowed": rows.shuffle(1, global_=False),
    }

    def content(batch: dict[str, Any]) -> dict[str, list[float]]:
        return {key: (column.values() if column.is_nested else column).tolist() for key, column in batch.items()}

    for name, plan in plans.items():
        untouched = [content(batch) for batch in plan.to_torch(batch_size=8)]
        for batch, expected in zip(plan.to_torch(batch_size=8), untouched, strict=True):
            for key, column in batch.items():
                assert content({key: column}) == {key: expected[key]}, name
                (column.values() if column.is_nested else column).fill_(-1)
    assert returned.to_pylist() == [1.0] * 64


def test_a_batch_is_saved_and_differentiated_by_itself() -> None:
    rows = Dataset.from_dict({"x": [float(x) for x in range(20_000)]}).shuffle(1, global_=False)
    batches = iter(rows.to_torch(batch_size=16))
    first, second = next(batches)["x"], next(batches)["x"]
    assert first.untyped_storage().nbytes() == 16 * 8
    weight = torch.ones(16, dtype=torch.float64, requires_grad=True)
    loss = (weight * first).sum()
    second.add_(1)
    loss.backward()


@pytest.mark.parametrize(
    "plan",
    [
        lambda rows: rows.shuffle(),
        lambda rows: rows.shuffle(global_=False).map(dict, schema=X),
        lambda rows: rows.sample(10),
        lambda rows: (
            Dataset.interleave([rows, rows], probabilities=[0.5, 0.5])
            if hasattr(Dataset, "interleave")
            else rows.shuffle()
        ),
    ],
)
def test_a_seed_that_every_rank_draws_by_itself_is_refused(plan: Any) -> None:
    rows = Dataset.from_dict({"x": list(range(ROWS))})
    assert len(list(plan(rows).to_torch(batch_size=4))) > 1
    with pytest.raises(InvalidArgumentError, match="seed"):
        plan(rows).to_torch(batch_size=4, world=World(0, 2))


def test_an_interleave_in_turn_needs_no_seed() -> None:
    rows = Dataset.from_dict({"x": list(range(ROWS))})
    first, second = (interleave([rows, rows]).to_torch(batch_size=4, world=World(0, 2)) for _ in range(2))
    next(iter(first))
    second.load_state_dict(first.state_dict())


VARIABLE: contextvars.ContextVar[int] = contextvars.ContextVar("VARIABLE", default=0)


def test_functions_run_in_the_thread_of_the_loop() -> None:
    """docs/loader.md: "With `num_workers=0` functions run in the thread of the training loop"."""
    connection = sqlite3.connect(":memory:")
    VARIABLE.set(3)

    def function(row: dict[str, int]) -> dict[str, int]:
        connection.execute("select 1")
        assert VARIABLE.get() == 3
        assert torch.is_inference_mode_enabled()
        return {"x": row["x"] * 0 + int(torch.randint(1 << 30, ()))}

    def stream() -> Iterator[pa.RecordBatch]:
        connection.execute("select 1")
        assert VARIABLE.get() == 3
        yield from batches_of_rows()

    rows = Dataset.from_dict({"x": list(range(ROWS))})
    plans = [
        rows.map(function, schema=X),
        rows.shuffle(1, global_=False, window=8).map(function, schema=X),
        rows.map(function, schema=X).filter("x >= 0"),
        rows.map(function, schema=X).filter("x >= 0").shuffle(1, global_=False, window=8),
        Dataset.from_batches(stream, schema=X).map(function, schema=X),
        Dataset.from_batches(stream, schema=X).shuffle(1, global_=False, window=8).map(function, schema=X),
    ]
    with torch.inference_mode():
        for plan in plans:
            drawn = []
            for _ in range(2):
                loader = plan.to_torch(batch_size=4)
                loader.state_dict()
                torch.manual_seed(5)
                drawn.append(values(loader))
            assert drawn[0] == drawn[1]
    connection.close()


def test_a_default_device_of_torch_does_not_matter() -> None:
    kinds = pa.schema({"v": pa.list_(pa.float32(), 2), "r": pa.list_(pa.int64()), "b": pa.bool_(), "f": pa.float64()})
    rows = Dataset.from_dict(
        {"v": [[1, 2], None], "r": [[1], [2, 3]], "b": [True, False], "f": [None, 1]}, schema=kinds
    )
    for ragged in ("jagged", "pad", "list"):
        with torch.device("meta"):
            (batch,) = rows.to_torch(batch_size=2, ragged=ragged)
        assert all(column.device.type == "cpu" for column in batch.values() if isinstance(column, torch.Tensor))
    changed = rows.map(dict, schema=kinds)
    for device in ("meta", "cpu"):
        torch.set_default_device(device)
        try:
            batches = [next(iter(rows.shuffle(1).to_torch(batch_size=2))), default_collate(rows.mapped()[[0, 1]])]
            batches += [next(iter(changed.to_torch(batch_size=2, num_workers=workers))) for workers in (0, 1)]
        finally:
            torch.set_default_device(None)
        assert {batch[name].device.type for batch in batches for name in kinds.names} == {"cpu"}


def test_a_state_may_hold_integers_of_numpy() -> None:
    loader = stored().to_torch(batch_size=4)
    next(iter(loader))
    state = loader.state_dict()
    for kind in (np.int64, np.uint8, np.array, torch.tensor):
        resumed = stored().to_torch(batch_size=4)
        resumed.load_state_dict({key: kind(value) if isinstance(value, int) else value for key, value in state.items()})
        assert json.loads(json.dumps(resumed.state_dict())) == state
    stream = streamed().to_torch(batch_size=4)
    next(iter(stream))
    state = stream.state_dict()
    resumed = streamed().to_torch(batch_size=4)
    resumed.load_state_dict(state | {"window": tuple(map(np.int64, state["window"])), "position": np.int64(4)})
    assert json.loads(json.dumps(resumed.state_dict())) == state


def test_arguments_may_be_integers_of_numpy() -> None:
    one, none = np.int64(1), np.int64(0)
    loader = stored().to_torch(batch_size=np.int64(4), num_workers=none, rank=none, world_size=one)  # type: ignore[arg-type]
    loader.set_epoch(np.int64(2))  # type: ignore[arg-type]
    next(iter(loader))
    plain = stored().to_torch(batch_size=4)
    plain.load_state_dict(json.loads(json.dumps(loader.state_dict())))
    assert (plain.epoch, values(plain)) == (2, values(loader)[1:])


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.int64])
def test_map_takes_tensors_and_arrays_of_several_dimensions(kind: Any) -> None:
    schema = pa.schema(
        {"t": pa.list_(pa.list_(pa.float32(), 2), 3), "r": pa.list_(pa.list_(pa.int64())), "s": pa.int64()}
    )

    def function(row: dict[str, int]) -> dict[str, Any]:
        values = torch.full((3, 2), row["x"]).to(kind)
        if row["x"] % 2:
            return {"t": values, "r": torch.ones(2, 2, dtype=torch.int64), "s": torch.tensor(row["x"])}
        return {"t": values.float().numpy(), "r": np.ones((2, 2), np.int64), "s": np.int64(row["x"])}

    rows = Dataset.from_dict({"x": list(range(4))}).map(function, schema=schema)
    (batch,) = rows.to_torch(batch_size=4)
    assert torch.equal(batch["t"], torch.arange(4.0)[:, None, None].expand(4, 3, 2))
    assert batch["r"] == [[[1, 1], [1, 1]]] * 4
    assert batch["s"].tolist() == [0, 1, 2, 3]
