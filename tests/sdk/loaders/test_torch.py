from __future__ import annotations

import gc
import io
import json
import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest

torch = pytest.importorskip("torch")

from lakefeed import Dataset  # noqa: E402
from lakefeed.catalog.lake import Lake  # noqa: E402
from lakefeed.errors import InvalidArgumentError, StateMismatchError, TypeMismatchError  # noqa: E402
from lakefeed.loaders.torch_loader import TorchLoader  # noqa: E402
from lakefeed.ops import load_files  # noqa: E402
from lakefeed.plan import order  # noqa: E402

ROWS = 100
X = pa.schema({"x": pa.int64()})


@pytest.fixture(scope="module")
def data(shared_home: Callable[..., AbstractContextManager[Path]]) -> Dataset:
    with shared_home(LAKEFEED__WRITE__ROW_GROUP_ROWS="30"):
        return Dataset.from_dict({"x": list(range(ROWS)), "y": [row / 2 for row in range(ROWS)]}).save("rows")


def taken(loader: TorchLoader, steps: int | None = None) -> list[list[int]]:
    found: list[list[int]] = []
    for batch in loader:
        found.append(batch["x"].tolist())
        if len(found) == steps:
            break
    return found


def kept(state: dict[str, Any]) -> dict[str, Any]:
    """The state as a file would give it back."""
    loaded: dict[str, Any] = json.loads(json.dumps(state))
    return loaded


def negated(row: dict[str, Any]) -> dict[str, Any]:
    return {"x": -row["x"]}


# ---------------------------------------------------------------------------------------- epochs and checkpoints


def test_epochs_follow_one_another(data: Dataset) -> None:
    loader = data.shuffle(42).to_torch(batch_size=16)
    first, second = taken(loader), taken(loader)
    assert first != second
    assert sorted(sum(map(tuple, first), ())) == sorted(sum(map(tuple, second), ())) == list(range(ROWS))
    assert loader.epoch == 2


@pytest.mark.parametrize("options", [{}, {"global_": False, "window": 20}])
def test_set_epoch_is_added_to_the_seed(data: Dataset, options: dict[str, Any]) -> None:
    later, other = (
        data.shuffle(42, **options).to_torch(batch_size=16),
        data.shuffle(43, **options).to_torch(batch_size=16),
    )
    later.set_epoch(1)
    assert taken(later) == taken(other)


def test_an_abandoned_epoch_begins_again(data: Dataset) -> None:
    loader = data.shuffle(1).to_torch(batch_size=16)
    assert taken(loader, 3) == taken(loader, 3)
    assert loader.epoch == 0


@pytest.mark.parametrize("epoch", [-1, 1.5, "2", None])
def test_an_epoch_is_a_whole_number(data: Dataset, epoch: Any) -> None:
    with pytest.raises((InvalidArgumentError, TypeError)):
        data.to_torch(batch_size=4).set_epoch(epoch)


def test_the_usual_loop_with_set_epoch_resumes(data: Dataset) -> None:
    """`for epoch in range(start, …): loader.set_epoch(epoch)`, as people write it for a DistributedSampler."""
    prepared = data.shuffle(1)
    whole = prepared.to_torch(batch_size=16)
    expected = [taken(whole), taken(whole), taken(whole)]
    first = prepared.to_torch(batch_size=16)
    first.set_epoch(1)
    taken(first, 4)
    resumed = prepared.to_torch(batch_size=16)
    resumed.load_state_dict(kept(first.state_dict()))
    found = []
    for epoch in range(resumed.epoch, 3):
        resumed.set_epoch(epoch)
        found.append(taken(resumed))
    assert found == [expected[1][4:], expected[2]]


def test_another_epoch_forgets_a_loaded_place(data: Dataset) -> None:
    loader = data.shuffle(1).to_torch(batch_size=16)
    taken(loader, 2)
    loader.load_state_dict(loader.state_dict())
    loader.set_epoch(3)
    assert loader.state_dict()["position"] == 0
    assert len(taken(loader)) == 7


def test_a_running_iteration_does_not_disturb_a_chosen_epoch(data: Dataset) -> None:
    loader = data.shuffle(1).to_torch(batch_size=16)
    for step, _ in enumerate(loader):
        if step == 2:
            loader.set_epoch(5)
    assert (loader.epoch, loader.state_dict()["position"]) == (5, 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_two_iterations_at_once_each_see_their_rows(data: Dataset, workers: int) -> None:
    loader = data.shuffle(1).to_torch(batch_size=16, num_workers=workers)
    expected = taken(data.shuffle(1).to_torch(batch_size=16))
    pairs = [(left["x"].tolist(), right["x"].tolist()) for left, right in zip(loader, loader, strict=True)]
    assert pairs == [(batch, batch) for batch in expected]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_state_counts_delivered_batches_not_prefetched_ones(data: Dataset, workers: int) -> None:
    loader = data.to_torch(batch_size=10, num_workers=workers, prefetch_batches=4)
    positions = []
    for _ in loader:
        time.sleep(0.01)
        positions.append(loader.state_dict()["position"])
    assert positions == [*range(10, ROWS, 10), 0]  # the last batch ends the epoch
    assert loader.state_dict() | {"position": 0} == loader.state_dict()
    assert loader.epoch == 1


def test_length_is_that_of_a_whole_epoch(data: Dataset) -> None:
    """`len(loader)` is the whole epoch's, also after a state was loaded, as frameworks count with it."""
    loader = data.filter("x >= 10").to_torch(batch_size=16)
    assert len(loader) == 6
    taken(loader, 2)
    loader.load_state_dict(loader.state_dict())
    assert len(loader) == 6
    assert len(taken(loader)) == 4
    assert len(loader) == len(taken(loader)) == 6


def test_no_rows_are_no_batches(data: Dataset) -> None:
    loader = data.filter("x < 0").to_torch(batch_size=4)
    assert len(loader) == 0
    assert taken(loader) == []


def test_single_rows(data: Dataset) -> None:
    loader = data.head(3).to_torch()
    rows = list(loader)
    assert [row["x"].item() for row in rows] == [0, 1, 2]
    assert rows[0]["y"].shape == ()
    assert len(loader) == 3


def test_single_rows_that_do_not_come_out_even_are_refused(data: Dataset) -> None:
    with pytest.raises(InvalidArgumentError, match="100 single rows cannot be dealt to 3 ranks"):
        data.to_torch(rank=0, world_size=3)
    loaders = [data.to_torch(rank=rank, world_size=3, drop_last=True) for rank in range(3)]
    assert [len(list(loader)) for loader in loaders] == [33, 33, 33]


def test_fewer_rows_than_ranks_is_an_error_at_the_call(data: Dataset) -> None:
    with pytest.raises(InvalidArgumentError, match="2 rows are too few for 3 ranks"):
        data.head(2).to_torch(batch_size=4, rank=0, world_size=3)


def test_fewer_rows_left_than_ranks_is_an_error_when_the_state_is_loaded(data: Dataset) -> None:
    first = data.to_torch(batch_size=33)
    taken(first, 3)
    wide = data.to_torch(batch_size=4, world_size=2)
    with pytest.raises(InvalidArgumentError, match="1 rows are too few for 2 ranks"):
        wide.load_state_dict(first.state_dict())


def test_a_state_of_other_rows_is_refused() -> None:
    state = Dataset.from_dict({"x": [0], "y": [0.5]}).save("rows").to_torch(batch_size=4).state_dict()
    more = Dataset.from_dict({"x": [1], "y": [1.0]}).append_to("rows")
    with pytest.raises(StateMismatchError, match=r"the data was 'rows@v1#.*and is 'rows@v2#"):
        more.to_torch(batch_size=4).load_state_dict(state)


def test_a_resume_near_the_end_decodes_only_what_it_needs(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "POOL_BYTES", 1)
    prepared = data.shuffle(3, global_=False, window=10)
    first = prepared.to_torch(batch_size=10)
    expected = taken(first)
    state = first.state_dict() | {"epoch": 0, "position": 90}
    reads = spied_reads(data, monkeypatch)
    resumed = prepared.to_torch(batch_size=10)
    resumed.load_state_dict(state)
    assert taken(resumed) == expected[9:]
    assert len(reads) <= 2


def spied_reads(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    reads: list[Any] = []
    source = type(data._plan.source)  # type: ignore[attr-defined]
    original = source.read

    def read(self: Any, fragment: Any, pushdown: Any) -> Any:
        reads.append(fragment.key)
        return original(self, fragment, pushdown)

    monkeypatch.setattr(source, "read", read)
    return reads


@pytest.mark.parametrize("shuffle", [False, True])
def test_each_row_group_is_decoded_once_an_epoch(data: Dataset, monkeypatch: pytest.MonkeyPatch, shuffle: bool) -> None:
    prepared = data.shuffle(3, global_=False, window=10) if shuffle else data
    loader = prepared.to_torch(batch_size=7)
    reads = spied_reads(data, monkeypatch)
    taken(loader)
    assert Counter(reads) == dict.fromkeys(reads, 1)
    assert len(reads) == 4


def test_functions_run_on_the_rows_of_a_rank_only(data: Dataset) -> None:
    calls: list[int] = []

    def seen(row: dict[str, Any]) -> dict[str, Any]:
        calls.append(row["x"])
        return {"x": row["x"]}

    for prepared in (data.map(seen, schema=X).shuffle(1), data.shuffle(1).map(seen, schema=X)):
        calls.clear()
        loader = prepared.to_torch(batch_size=5, rank=1, world_size=2)
        assert calls == []
        delivered = [row for batch in taken(loader) for row in batch]
        assert sorted(calls) == sorted(delivered)
        assert len(calls) == 50


def test_files_are_loaded_for_the_rows_of_a_rank_only(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{row}.bin" for row in range(20)]
    for row, path in enumerate(paths):
        path.write_bytes(b"%d" % row)
    files = Dataset.from_dict({"x": list(range(20)), "f": [str(path) for path in paths]})
    saved = files.save("files", column_types={"f": "file"})
    loaded: list[int] = []
    original = load_files.LoadAhead.start

    def counting(ahead: load_files.LoadAhead, batch: pa.RecordBatch) -> Callable[[], pa.RecordBatch]:
        loaded.append(batch.num_rows)
        return original(ahead, batch)

    monkeypatch.setattr(load_files.LoadAhead, "start", counting)
    loader = saved.shuffle(1).to_torch(batch_size=5, rank=0, world_size=2, load_files="bytes")
    batches = list(loader)
    assert loaded == [5, 5]
    assert all(batch["f"] == [b"%d" % row for row in batch["x"].tolist()] for batch in batches)


# ------------------------------------------------------------------------------------------------------- memory


def test_tensors_in_order_share_memory_with_the_decoded_rows(data: Dataset) -> None:
    first, second, *_ = (batch["x"] for batch in data.to_torch(batch_size=8, prefetch_batches=0))
    assert second.data_ptr() - first.data_ptr() == 8 * 8


SOURCES: dict[str, Callable[[Path], Dataset]] = {
    "memory": lambda _: Dataset.from_dict({"x": list(range(ROWS))}),
    "mapped": lambda path: csv(path),
    "saved": lambda _: Dataset.from_dict({"x": list(range(ROWS))}).save("numbers"),
}


def csv(path: Path) -> Dataset:
    (path / "rows.csv").write_text("x\n" + "\n".join(map(str, range(ROWS))))
    return Dataset.from_file(str(path / "rows.csv"))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "prepare",
    [
        lambda data: data,
        lambda data: data.shuffle(1),
        lambda data: data.shuffle(1, global_=False, window=1),
        lambda data: data.shuffle(1, global_=False, window=9),
        lambda data: data.shuffle(1).filter("x >= 0"),
        lambda data: data.filter("x >= 0"),
        lambda data: data.shuffle(1).slice(5, 50),
    ],
    ids=["in order", "global", "window of one", "windowed", "filtered above", "filtered", "sliced"],
)
def test_writing_to_a_batch_changes_nothing_else(tmp_path: Path, source: str, prepare: Any) -> None:
    prepared = prepare(SOURCES[source](tmp_path))
    loader = prepared.to_torch(batch_size=8)
    expected = [row["x"] for row in prepared.rows()]
    for _ in range(2):
        loader.set_epoch(0)
        found = []
        for batch in loader:
            found += batch["x"].tolist()
            batch["x"].fill_(-1)
        assert found == expected
    assert [row["x"] for row in prepared.rows()] == expected


def test_dtypes_do_not_drift_with_nulls_in_a_later_batch(lake: Lake) -> None:
    nulls = Dataset.from_dict({"f": pa.array([1.0] * 9 + [None], pa.float32()), "i": [1] * 9 + [None]})
    assert {batch["f"].dtype for batch in nulls.select(["f"]).to_torch(batch_size=4)} == {torch.float32}
    with pytest.raises(TypeMismatchError, match="column 'i' of type int64 holds null"):
        list(nulls.to_torch(batch_size=4))


# ------------------------------------------------------------------------------------------ DataLoader's arguments


@pytest.mark.parametrize("option", ["shuffle", "sampler", "batch_sampler", "dataset"])
def test_what_the_plan_decides_is_refused(data: Dataset, option: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"does not take '{option}'"):
        data.to_torch(batch_size=4, **{option: [1]})


def test_batches_out_of_order_are_refused(data: Dataset) -> None:
    with pytest.raises(InvalidArgumentError, match="in_order=False"):
        data.to_torch(batch_size=4, num_workers=2, in_order=False)


@pytest.mark.parametrize("workers", [0, 2])
def test_collate_fn_gets_the_batch(data: Dataset, workers: int) -> None:
    loader = data.to_torch(batch_size=50, num_workers=workers, collate_fn=lambda batch: sum(batch["x"].tolist()))
    assert list(loader) == [sum(range(50)), sum(range(50, 100))]


def test_other_arguments_go_to_the_dataloader(data: Dataset) -> None:
    loader = data.to_torch(
        batch_size=10, num_workers=1, prefetch_factor=3, persistent_workers=True, pin_memory=False, timeout=60
    )
    assert (loader.prefetch_factor, loader.persistent_workers, loader.timeout) == (3, True, 60)
    assert len(taken(loader)) == 10


def test_persistent_workers_see_every_epoch(data: Dataset) -> None:
    prepared = data.shuffle(1)
    plain = prepared.to_torch(batch_size=16)
    loader = prepared.to_torch(batch_size=16, num_workers=2, persistent_workers=True)
    assert [taken(loader), taken(loader)] == [taken(plain), taken(plain)]
    loader.set_epoch(7)
    plain.set_epoch(7)
    assert taken(loader, 2) == taken(plain, 2)
    assert taken(loader) == taken(plain)
    state = plain.state_dict() | {"position": 48}
    loader.load_state_dict(state)
    plain.load_state_dict(state)
    assert taken(loader) == taken(plain)


@pytest.mark.live
def test_spawned_workers(data: Dataset) -> None:
    prepared = data.map(negated_here, schema=X).shuffle(1)
    loader = prepared.to_torch(batch_size=30, num_workers=1, multiprocessing_context="spawn")
    assert taken(loader) == taken(prepared.to_torch(batch_size=30))


def negated_here(row: dict[str, Any]) -> dict[str, Any]:
    return {"x": -row["x"]}


def test_more_workers_than_steps(data: Dataset) -> None:
    assert taken(data.head(3).to_torch(batch_size=4, num_workers=2)) == [[0, 1, 2]]


# --------------------------------------------------------------------------------------------- nothing stays behind


def descriptors() -> set[str]:
    return {place.name for place in Path("/proc/self/fd").iterdir()}


def threads() -> set[str]:
    found = {thread.name for thread in threading.enumerate() if thread.name.startswith("lakefeed")}
    pools = ("lakefeed-arrays", "lakefeed-files", "lakefeed-web-deadline")  # of the process
    return {name for name in found if not name.startswith(pools)}


@pytest.fixture
def nothing_stays() -> Iterator[None]:
    list(Dataset.from_dict({"x": list(range(8))}).to_torch(batch_size=4, num_workers=1))  # what torch opens once
    pacsv.read_csv(io.BytesIO(b"x\n1\n"))  # and Arrow, for signals
    gc.collect()
    before, processes = descriptors(), set(multiprocessing.active_children())
    yield
    assert threads() == set()
    assert set(multiprocessing.active_children()) == processes
    gc.collect()
    assert descriptors() <= before


@pytest.mark.live
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.usefixtures("nothing_stays")
def test_an_early_break_leaves_nothing(workers: int, shuffle: bool, tmp_path: Path) -> None:
    rows = csv(tmp_path)
    for _ in (rows.shuffle(1) if shuffle else rows).to_torch(batch_size=4, num_workers=workers):
        break


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.usefixtures("nothing_stays")
def test_a_whole_epoch_leaves_nothing(workers: int, tmp_path: Path) -> None:
    assert len(taken(csv(tmp_path).to_torch(batch_size=4, num_workers=workers))) == 25


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("place", ["collate_fn", "map"])
def test_an_exception_leaves_nothing_even_while_it_is_kept(data: Dataset, workers: int, place: str) -> None:
    def broken(_: Any) -> Any:
        raise KeyError("broken")

    prepared, options = (data.map(broken, schema=X), {}) if place == "map" else (data, {"collate_fn": broken})
    processes = set(multiprocessing.active_children())
    with pytest.raises(KeyError, match="broken") as caught:
        list(prepared.to_torch(batch_size=4, num_workers=workers, **options))
    assert threads() == set()
    assert set(multiprocessing.active_children()) == processes
    assert caught.tb is not None


@pytest.mark.usefixtures("nothing_stays")
@pytest.mark.live
def test_a_dropped_iterator_leaves_nothing(data: Dataset) -> None:
    for workers in (0, 2):
        batches = iter(data.to_torch(batch_size=4, num_workers=workers))
        next(batches)
        del batches
        gc.collect()


@pytest.mark.usefixtures("nothing_stays")
def test_an_iterator_in_a_cycle_leaves_nothing(data: Dataset) -> None:
    loop: dict[str, Any] = {}
    loop["self"], loop["batches"] = loop, iter(data.to_torch(batch_size=4))
    next(loop["batches"])
    del loop
    gc.collect()


@pytest.mark.usefixtures("nothing_stays")
def test_persistent_workers_end_with_their_loader(data: Dataset) -> None:
    loader = data.to_torch(batch_size=4, num_workers=2, persistent_workers=True)
    taken(loader, 2)
    assert len(multiprocessing.active_children()) >= 2
    del loader
    gc.collect()


def test_numbers_of_numpy_are_accepted(data: Dataset) -> None:
    loader = data.to_torch(batch_size=4, rank=np.int64(0), world_size=np.int64(2))
    loader.set_epoch(np.int64(3))  # type: ignore[arg-type]
    assert json.loads(json.dumps(loader.state_dict()))["epoch"] == 3


@pytest.mark.skipif(torch.accelerator.is_available(), reason="what torch does where there is none")
@pytest.mark.parametrize("workers", [0, 2])
def test_pinning_without_an_accelerator_is_what_torch_makes_of_it(data: Dataset, workers: int) -> None:
    loader = data.shuffle(1).to_torch(batch_size=16, pin_memory=True, num_workers=workers)
    with pytest.warns(UserWarning, match="no accelerator is found"):
        batches = taken(loader)
    assert batches == taken(data.shuffle(1).to_torch(batch_size=16))
    assert loader.state_dict()["epoch"] == 1
