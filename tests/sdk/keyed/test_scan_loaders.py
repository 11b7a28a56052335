"""Scans as loaders and as streams of `datasets`: the order, exact and elastic states, ranks, workers, shards."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lakefeed import Table, World, connect, udf
from lakefeed.errors import InvalidArgumentError, StateMismatchError, TransformError
from lakefeed.keyed import KeyRange, ScanLoader, Shard, ShuffleConfig, key_ranges
from lakefeed.keyed.keyed_scan import Scan

pytest.importorskip("torch")

ROWS = 300
ORDERS: list[dict[str, Any]] = [
    {},
    {"shuffle_buffer_size": 40},
    {"shuffle_shards": False},
    {"shuffle_shards": False, "shuffle_buffer_size": 7},
]


@udf(pa.int64())
def doubled(x: Any) -> Any:
    return [2 * each for each in x.to_pylist()]


def sizes_and_sum(batch: pa.RecordBatch) -> tuple[int, int]:
    return batch.num_rows, sum(batch["id"].to_pylist())


@pytest.fixture
def table(home: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", "10")
    monkeypatch.setattr(key_ranges.layout_ranges, "__defaults__", (40,))
    table = Table.create("numbers", key_schema={"id": pa.int64()})
    for first in (0, 1):
        table.write({"id": list(range(first, ROWS, 2)), "x": list(range(ROWS // 2))})
    return table


def ids(batches: Any) -> list[int]:
    return [each for batch in batches for each in batch["id"].to_pylist()]


def saved(loader: ScanLoader) -> Any:
    return json.loads(json.dumps(loader.state_dict()))


@pytest.mark.parametrize(
    "order", [pytest.param(order, marks=[] if order == ORDERS[1] else pytest.mark.live) for order in ORDERS]
)
def test_a_state_is_exact_at_every_step(table: Table, order: dict[str, Any]) -> None:
    scan = table.scan()
    loader = scan.to_data_loader(batch_size=13, **order)
    epochs = [ids(loader) for _ in range(3)]
    assert [sorted(each) for each in epochs] == [list(range(ROWS))] * 3
    assert (
        (epochs[0] == epochs[1]) == (epochs[0][:40] == sorted(epochs[0])[:40]) == (order == {"shuffle_shards": False})
    )
    loader, received = scan.to_data_loader(batch_size=13, **order), 0
    for step, batch in enumerate(batch for _ in range(2) for batch in loader):
        received += batch.num_rows
        if step % 7 == 4 and received % ROWS < ROWS - 17:
            resumed = scan.resume_data_loader(saved(loader), batch_size=17)
            second = ids([next(iter(resumed))])
            again = ScanLoader.from_state_dict(scan, saved(resumed), batch_size=50)  # a state of a resumed loader
            epoch, position = divmod(received, ROWS)
            assert second + ids(again) == epochs[epoch][position:]


def test_shards_that_are_permuted_keep_the_order_of_the_key_inside(table: Table) -> None:
    scan = table.scan()
    parts = [ids(scan.to_record_batches(shards=[each])) for each in scan.shards()]
    assert len(parts) > 5
    order = ids(scan.to_data_loader())
    assert sorted(parts, key=lambda part: order.index(part[0])) == [
        order[order.index(part[0]) :][: len(part)] for part in sorted(parts, key=lambda part: order.index(part[0]))
    ]
    within = ids(scan.to_data_loader(shuffle_shards=False, shuffle_buffer_size=1000))
    assert [sorted(within[part[0] : part[0] + len(part)]) for part in parts] == parts
    assert within != sorted(within)


def test_ranks_share_the_rows_and_other_ranks_continue(table: Table) -> None:
    scan = table.scan(where="id != 7")
    rows = set(range(ROWS)) - {7}

    def ranks(size: int, **options: Any) -> list[ScanLoader]:
        return [scan.to_distributed_data_loader(World(rank, size), batch_size=8, **options) for rank in range(size)]

    for order in ORDERS[:2]:
        loaders = ranks(3, **order)
        steps = [iter(loader) for loader in loaders]
        seen = [each for _ in range(5) for step in steps for each in ids([next(step)])]
        states = [saved(loader) for loader in loaders]
        assert [state["position"] for state in states] == [states[0]["position"]] * 3
        fewer = [scan.resume_data_loader(states[2], world=World(rank, 2), batch_size=11) for rank in range(2)]
        assert len({len(loader) for loader in fewer}) == 1
        steps = [iter(loader) for loader in fewer]
        seen += [each for _ in range(2) for step in steps for each in ids([next(step)])]
        alone = scan.resume_data_loader(saved(fewer[0]), world=World())
        seen += ids(alone)
        assert sorted(seen) == sorted(rows)
        assert alone.epoch == 1
        assert sorted(ids(alone)) == sorted(rows)
    same = [scan.resume_data_loader(state) for state in states]  # each rank as it was
    assert sorted(each for loader in same for each in ids(loader)) == sorted(rows - set(seen[: 5 * 3 * 8]))


def test_a_launcher_decides_the_rank(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = table.scan()
    state = saved(scan.to_distributed_data_loader(World(1, 2), batch_size=10))
    assert len(ids(scan.resume_data_loader(state))) == ROWS // 2
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert len(ids(scan.resume_data_loader(state))) == len(ids(scan.to_distributed_data_loader())) == ROWS // 3
    assert len(ids(scan.to_data_loader())) == ROWS  # of one process


def test_shards_of_a_rank(table: Table) -> None:
    scan = table.scan()
    shards = scan.compute_shards(50)
    loaders = [scan.to_distributed_data_loader(World(rank, 4), shards, batch_size=30) for rank in range(4)]
    assert [len(loader) for loader in loaders] == [4, 4, 2, 2]
    assert sorted(each for loader in loaders for each in ids(loader)) == list(range(ROWS))
    loader = scan.to_distributed_data_loader(World(0, 4), shards, batch_size=30)
    first = next(iter(loader))
    resumed = scan.resume_data_loader(saved(loader))
    assert ids([first]) + ids(resumed) == ids(scan.to_data_loader(shards=World(0, 4).shards(shards, 42)))
    assert ids(scan.to_data_loader(shards=[shards[1], shards[1]], shuffle_shards=False)) == [*range(50, 100)] * 2
    assert ids(scan.to_data_loader(shards=[])) == []
    wrong = scan.to_data_loader(shards=[Shard(KeyRange((0,), (9,)), 8)])
    with pytest.raises(StateMismatchError, match="9 rows, but 8"):
        ids(wrong)


def test_transforms_skips_and_endless_epochs(table: Table) -> None:
    scan = table.scan()
    plain = ids(scan.to_data_loader())
    sums = [sizes_and_sum(batch) for batch in scan.to_data_loader()]
    assert list(scan.to_data_loader(transform_fn=sizes_and_sum)) == sums
    assert ids(scan.to_data_loader(skip_samples=45)) == plain[45:]
    endless = scan.to_data_loader(infinite=True, skip_samples=290, batch_readahead=0)
    batches = iter(endless)
    rows = [next(batches) for _ in range(12)]
    assert ids(rows)[:10] == plain[290:]
    assert endless.epoch == 2
    assert sorted(ids(rows)[10:310]) == list(range(ROWS))
    with pytest.raises(TypeError):
        len(endless)
    loader = scan.to_data_loader()
    loader.set_epoch(1)
    assert ids(rows)[10:310] == ids(loader)
    assert loader.metrics.batches == len(loader)


def test_workers_keep_the_order(table: Table) -> None:
    scan = table.scan()
    sums = [sizes_and_sum(batch) for batch in scan.to_data_loader(shuffle_buffer_size=20)]
    options = {"transform_fn": sizes_and_sum, "map_workers": 2, "shuffle_buffer_size": 20}
    loader = scan.to_data_loader(**options)
    batches = iter(loader)
    received = [next(batches) for _ in range(3)]
    resumed = scan.resume_data_loader(saved(loader), transform_fn=sizes_and_sum)
    assert received + list(resumed) == received + list(batches) == sums


def fails(batch: pa.RecordBatch) -> Any:
    raise KeyError(batch.num_rows)


def test_scans_with_functions_and_versions_that_change(table: Table) -> None:
    def scan() -> Scan:
        return connect().scan(table, {"y": doubled(table["x"])})

    loader = scan().to_data_loader(shuffle_buffer_size=50)
    batches = iter(loader)
    seen = [next(batches) for _ in range(3)]
    rest = ids(scan().resume_data_loader(saved(loader)))
    assert sorted(ids(seen) + rest) == list(range(ROWS))
    assert seen[0]["y"].to_pylist() == [2 * each for each in seen[0]["x"].to_pylist()]
    assert ids(scan().to_data_loader(shards=scan().compute_shards(100)[1:2])) == list(range(100, 200))
    with pytest.raises(TransformError) as error:
        list(scan().to_data_loader(transform_fn=fails))
    assert isinstance(error.value, KeyError)
    old, state = table.scan(), saved(table.scan().to_data_loader())
    table.write({"id": [1000], "x": [1]})
    assert len(ids(old.resume_data_loader(state))) == ROWS
    for bad in (state, {**state, "seed": 1}, {**state, "scan_loader": 9}, {}, None, {**state, "shards": "no"}):
        with pytest.raises(StateMismatchError):
            (table if bad == state else old.reader and table).scan().resume_data_loader(bad)
    with pytest.raises(StateMismatchError, match="seed"):
        old.resume_data_loader(state, seed=5)


def test_arguments_that_are_refused(table: Table) -> None:
    scan = table.scan()
    wrong: list[dict[str, Any]] = [
        {"batch_size": 0},
        {"batch_size": None},
        {"shuffle_buffer_size": -1},
        {"shuffle_shards": 1},
        {"seed": "x"},
        {"seed": None},
        {"skip_samples": 301},
        {"skip_samples": -1},
        {"map_workers": -1},
        {"transform_fn": 5},
        {"infinite": "yes"},
        {"world": 3},
        {"shards": [KeyRange()]},
        {"batch_readahead": -1},
        {"workers": 3},
        {"drop_last": None},
    ]
    for arguments in wrong:
        with pytest.raises(InvalidArgumentError):
            ScanLoader(scan, **arguments)
    for world in (3, World(0, 301)):
        with pytest.raises(InvalidArgumentError):
            ids(scan.to_distributed_data_loader(world))  # type: ignore[arg-type]


def rows_of(dataset: Any, count: int) -> list[int]:
    rows: Iterator[Any] = iter(dataset)
    return [next(rows)["id"] for _ in range(count)]


@pytest.mark.live
def test_a_stream_of_datasets_resumes_exactly(table: Table) -> None:
    pytest.importorskip("datasets")
    from datasets.distributed import split_dataset_by_node

    scan = table.scan()
    assert list(scan.to_iterable_dataset(shards=scan.compute_shards(3)[:1])) == scan.to_table().slice(0, 3).to_pylist()
    plain = scan.to_iterable_dataset()
    assert rows_of(plain, ROWS) == list(range(ROWS))
    assert plain.features["x"].dtype == "int64"
    parts = [split_dataset_by_node(plain, rank, 2) for rank in range(2)]
    assert sorted(each["id"] for part in parts for each in part) == list(range(ROWS))
    for shuffle in (None, ShuffleConfig(3), ShuffleConfig(3, buffer_size=15)):
        stream = scan.to_iterable_dataset(shuffle=shuffle, infinite=True)
        order = rows_of(stream, 2 * ROWS)
        assert sorted(order[:ROWS]) == sorted(order[ROWS:]) == list(range(ROWS))
        assert (order[:ROWS] == order[ROWS:]) == (shuffle is None)
        for count in random.Random(1).sample(range(2 * ROWS), 3):
            stream = scan.to_iterable_dataset(shuffle=shuffle, infinite=True)
            rows_of(stream, count)
            resumed = scan.to_iterable_dataset(shuffle=shuffle, infinite=True)
            resumed.load_state_dict(json.loads(json.dumps(stream.state_dict())))
            assert rows_of(resumed, 2 * ROWS - count) == order[count:]
    assert list(scan.to_iterable_dataset(shards=[], infinite=True)) == []
    mixed = scan.to_iterable_dataset().shuffle(seed=4, buffer_size=10)
    assert sorted(each["id"] for each in mixed) == list(range(ROWS))
    for wrong in ({"shuffle": 3}, {"shards": [1]}, {"infinite": 1}, {"batch_readahead": -1}):
        with pytest.raises(InvalidArgumentError):
            scan.to_iterable_dataset(**wrong)


def test_shards_of_ranks() -> None:
    shards = list(range(10))
    for seed in (None, 5):
        dealt = [World(rank, 3).shards(shards, seed) for rank in range(3)]
        assert sorted(each for part in dealt for each in part) == shards
        assert [len(part) for part in dealt] == [4, 3, 3]
    assert World(1, 3).shards(shards) == [1, 4, 7]
    assert World(0, 2).shards([]) == []
    assert np.any(World().shards(shards, 1) != np.array(shards))
