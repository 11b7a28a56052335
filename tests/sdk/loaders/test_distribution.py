"""Ranks, worker processes and endless streams, on real processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

torch = pytest.importorskip("torch")

from lakefeed import Dataset, World, concatenate, interleave  # noqa: E402
from lakefeed.catalog.lake import Lake  # noqa: E402
from lakefeed.errors import InvalidArgumentError, StateMismatchError  # noqa: E402
from lakefeed.loaders.torch_loader import TorchLoader  # noqa: E402
from lakefeed.loaders.worker_tasks import tasks  # noqa: E402
from lakefeed.storage import BlobStore  # noqa: E402

X = pa.schema({"x": pa.int64()})


def doubled(row: dict[str, Any]) -> dict[str, Any]:
    return {"x": 2 * row["x"]}


@pytest.fixture
def data(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", "30")
    return Dataset.from_dict({"x": list(range(101)), "y": [row / 2 for row in range(101)]}).save("rows")


PLANS: dict[str, Callable[[Dataset], Dataset]] = {
    "in order": lambda data: data,
    "windowed": lambda data: data.shuffle(3, global_=False, window=16),
    "filtered": lambda data: data.filter("x % 3 <> 0").shuffle(3, global_=False, window=16),
    "sql": lambda data: data.sql("SELECT x FROM data WHERE x % 2 = 0").shuffle(3),
    "join": lambda data: data.join(data.rename({"y": "z"}), "x").shuffle(3),
    "interleaved": lambda data: interleave([data, data.head(40)], stopping_strategy="all_exhausted").shuffle(3),
    "concatenated": lambda data: concatenate([data, data.head(7)]).shuffle(3),
}


def ids(batches: Any) -> list[int]:
    return [row for batch in batches for row in batch["x"].tolist()]


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(
    ("ranks", "workers", "size"),
    [(3, 0, 7), *(pytest.param(*each, marks=pytest.mark.live) for each in ((1, 2, 16), (4, 1, 16)))],
)
def test_ranks_take_equal_steps_and_see_every_row_once(
    data: Dataset, plan: str, ranks: int, workers: int, size: int
) -> None:
    prepared = PLANS[plan](data)
    expected = sorted(row["x"] for row in prepared.rows())
    loaders = [
        prepared.to_torch(batch_size=size, num_workers=workers, world=World(rank, ranks)) for rank in range(ranks)
    ]
    batches = [list(loader) for loader in loaders]
    assert {len(each) for each in batches} == {len(batches[0])}
    assert all(len(batch["x"]) for each in batches for batch in each)
    assert sorted(row for each in batches for row in ids(each)) == expected


@pytest.mark.live
@pytest.mark.parametrize("plan", PLANS)
def test_a_second_resume_in_the_second_epoch_is_exact(data: Dataset, plan: str) -> None:
    prepared = PLANS[plan](data).map(doubled, schema=X)

    def make(**options: Any) -> TorchLoader:
        return prepared.to_torch(batch_size=8, **options)

    whole = make()
    list(whole)
    expected = ids(whole)
    first = make()
    first.set_epoch(1)
    seen = ids(islice(first, 2))
    second = make(num_workers=2)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    batches = iter(second)
    seen += ids([next(batches)])
    state = json.loads(json.dumps(second.state_dict()))
    assert len(json.dumps(state)) < 1024
    batches.close()  # type: ignore[attr-defined]  # a generator
    others = [prepared.to_torch(batch_size=5, rank=rank, world_size=2) for rank in range(2)]
    for other in others:
        other.load_state_dict(state)
    assert seen + [row for pair in zip(*others, strict=True) for row in ids(pair)] == expected


def test_no_worker_is_idle_because_there_is_one_file(data: Dataset) -> None:
    def who(batch: dict[str, Any]) -> tuple[int, int]:
        return torch.utils.data.get_worker_info().id, os.getpid()

    found = list(data.to_torch(batch_size=10, num_workers=2, collate_fn=who))
    assert [worker for worker, _ in found] == [0, 1] * 5 + [0]
    assert len({process for _, process in found}) == 2
    assert os.getpid() not in {process for _, process in found}


def test_workers_do_not_read_what_the_others_read(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are decoded once, by the main process; a worker that read would not be seen here."""
    reads: list[Any] = []
    source = type(data._plan.source)  # type: ignore[attr-defined]
    original = source.read

    def read(self: Any, fragment: Any, pushdown: Any) -> Any:
        assert multiprocessing.parent_process() is None
        reads.append(fragment.key)
        return original(self, fragment, pushdown)

    monkeypatch.setattr(source, "read", read)
    prepared = data.map(doubled, schema=X)
    assert ids(prepared.to_torch(batch_size=7, num_workers=2)) == list(range(0, 202, 2))
    assert len(reads) == len(set(reads)) == 4


def test_kept_rows_are_counted_once_for_a_snapshot(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = data.filter("x % 3 = 1")
    expected = list(range(1, 101, 3))
    assert len(kept.to_torch(batch_size=10)) == 4
    source = type(data._plan.source)  # type: ignore[attr-defined]
    with monkeypatch.context() as patched:
        patched.setattr(source, "read", None)  # it is not read to be counted again
        assert len(data.filter("x % 3 = 1").shuffle(1, global_=False).to_torch(batch_size=10, world=World(1, 2))) == 2
        with pytest.raises(TypeError, match="NoneType"):
            len(data.filter("x % 3 = 2").to_torch(batch_size=10))
    assert ids(kept.to_torch(batch_size=10)) == expected
    newer = Dataset.from_dict({"x": [103], "y": [0.0]}).append_to("rows")
    assert ids(newer.filter("x % 3 = 1").to_torch(batch_size=10)) == [*expected, 103]


def test_maps_of_workers_keep_the_order(data: Dataset) -> None:
    prepared = data.shuffle(1).map(doubled, schema=X)
    assert ids(prepared.to_torch(batch_size=7, num_workers=2)) == ids(prepared.to_torch(batch_size=7))


def test_an_infinite_loader_goes_on_with_the_next_epoch(data: Dataset) -> None:
    prepared = data.shuffle(1)
    plain = prepared.to_torch(batch_size=50)
    expected = [batch["x"].tolist() for _ in range(3) for batch in plain]
    endless = prepared.to_torch(batch_size=50, infinite=True)
    with pytest.raises(TypeError, match="no length"):
        len(endless)
    found = []
    for batch in endless:
        found.append(batch["x"].tolist())
        if len(found) == 7:
            break
    assert found == expected[:7]
    resumed = prepared.to_torch(batch_size=50, infinite=True)
    resumed.load_state_dict(json.loads(json.dumps(endless.state_dict())))
    assert (resumed.epoch, [batch["x"].tolist() for batch in islice(resumed, 2)]) == (2, expected[7:])


def test_an_infinite_loader_of_nothing_is_an_error(data: Dataset) -> None:
    with pytest.raises(InvalidArgumentError, match="would never end"):
        next(iter(data.filter("x < 0").to_torch(batch_size=4, infinite=True)))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_lambdas_are_refused_at_the_call_where_workers_are_not_forked(data: Dataset, method: str) -> None:
    options: dict[str, Any] = {"batch_size": 8, "num_workers": 1, "multiprocessing_context": method}
    with pytest.raises(InvalidArgumentError, match=f"the function of map cannot be sent .* {method!r}.*top level"):
        data.map(lambda row: {"x": row["x"]}, schema=X).to_torch(**options)
    with pytest.raises(InvalidArgumentError, match="collate_fn cannot be sent"):
        data.to_torch(**options, collate_fn=lambda batch: batch)
    data.filter(lambda row: row["x"] > 3).to_torch(**options)  # runs in this process


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_load_the_files_of_their_next_batch_ahead(lake: Lake, tmp_path: Path, workers: int) -> None:
    paths = [tmp_path / f"{row}.bin" for row in range(37)]
    for row, path in enumerate(paths):
        path.write_bytes(b"%d" % row)
    rows = Dataset.from_dict({"x": list(range(37)), "f": [str(path) for path in paths]})
    loader = (
        rows.save("files", column_types={"f": "file"})
        .shuffle(1)
        .to_torch(batch_size=4, num_workers=workers, load_files="bytes", persistent_workers=workers > 0)
    )
    for _ in zip(range(3), loader, strict=False):
        pass  # given up: what was begun for it must not come in the next one
    for _ in range(2):
        seen = []
        for batch in loader:
            assert batch["f"] == [b"%d" % row for row in batch["x"].tolist()]
            seen += batch["x"].tolist()
        assert sorted(seen) == list(range(37))


@pytest.mark.parametrize("batches", [0, 1, 2, 5])
@pytest.mark.parametrize("ahead", [0, 1, 2, 3])
def test_a_worker_has_the_rows_of_its_tasks_when_they_come(batches: int, ahead: int) -> None:
    made = list(tasks((pa.record_batch({"x": [row]}) for row in range(batches)), ahead))
    assert [task.number for task in made] == list(range(batches))
    got: dict[int, list[int]] = {}
    for task in made:
        mine = got.setdefault(task.number % max(ahead, 1), [])
        mine += [place for place, _ in task.rows]
        assert task.number in mine
        assert all(place % max(ahead, 1) == task.number % max(ahead, 1) for place, _ in task.rows)
    assert sorted(place for mine in got.values() for place in mine) == list(range(batches))


def test_the_world_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert World.from_torch() == World(0, 1)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert World.from_torch() == World(2, 3)


def test_a_world_is_given_once(data: Dataset) -> None:
    assert len(data.to_torch(batch_size=10, world=World(1, 2))) == 6
    with pytest.raises(InvalidArgumentError, match="give one of them"):
        data.to_torch(batch_size=10, world=World(1, 2), world_size=3)
    with pytest.raises(InvalidArgumentError, match="world must be a World"):
        data.to_torch(batch_size=10, world=2)  # type: ignore[arg-type]


TRAIN = """
import json, sys
import torch, torch.distributed as distributed
from torch.nn.parallel import DistributedDataParallel
from lakefeed import Dataset, World

distributed.init_process_group("gloo", init_method=f"file://{sys.argv[1]}/meet", rank=int(sys.argv[2]), world_size=2)
loader = Dataset("rows").shuffle(1).to_torch(batch_size=16, world=World.from_torch())
model = DistributedDataParallel(torch.nn.Linear(1, 1))
optimizer = torch.optim.SGD(model.parameters(), 0.001)
seen = []
for epoch in range(2):
    for batch in loader:
        loss = (model(batch["x"].float()[:, None] / 101)[:, 0] - batch["y"].float()).square().mean()
        optimizer.zero_grad(); loss.backward(); optimizer.step()
        seen.append(batch["x"].tolist())
weight = model.module.weight.item()
distributed.destroy_process_group()
print(json.dumps({"seen": seen, "weight": weight}))
"""


@pytest.mark.live
def test_two_processes_train_together(data: Dataset, tmp_path: Path) -> None:
    """DDP would hang if one of them had a step more."""
    processes = [
        subprocess.Popen([sys.executable, "-c", TRAIN, str(tmp_path), str(rank)], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        first, second = (json.loads(process.communicate(timeout=120)[0].splitlines()[-1]) for process in processes)
    finally:
        for process in processes:
            process.kill()
    assert first["weight"] == second["weight"]
    steps = len(first["seen"]) // 2
    assert len(second["seen"]) == len(first["seen"]) == 8
    for epoch in (slice(0, steps), slice(steps, None)):
        assert sorted(chain.from_iterable(first["seen"][epoch] + second["seen"][epoch])) == list(range(101))


@pytest.mark.live
def test_an_iterator_that_is_open_when_the_interpreter_ends_is_silent(data: Dataset) -> None:
    program = "from lakefeed import Dataset; batches = iter(Dataset('rows').to_torch(batch_size=4)); next(batches)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


INTERRUPTED = """
import os, signal, sys, time
from lakefeed import Dataset
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
workers = int(sys.argv[1])
try:
    for step, batch in enumerate(Dataset("rows").to_torch(batch_size=4, num_workers=workers)):
        if step == 3:
            print(os.getpid(), flush=True)
            time.sleep(60)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.live
@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_leaves_no_process_and_no_file(data: Dataset, workers: int, tmp_path: Path) -> None:
    """The signal goes to the whole group, as from a terminal."""
    temporary = tempfile.mkdtemp()  # not below tmp_path: the names of sockets are short
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(workers)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"TMPDIR": temporary},
    )
    assert process.stdout is not None
    shared = set(Path("/dev/shm").iterdir())
    try:
        group = int(process.stdout.readline())
        os.killpg(group, signal.SIGINT)
        assert process.communicate(timeout=60)[0].strip() == "interrupted"
        with pytest.raises(ProcessLookupError):
            os.killpg(group, 0)
    finally:
        process.kill()
        shutil.rmtree(temporary)
    assert not [path for path in set(Path("/dev/shm").iterdir()) - shared if str(group) in path.name]
    assert list((tmp_path / "cache" / "spill").glob("*")) == []


def test_a_state_of_another_snapshot_or_plan_says_what_changed(data: Dataset) -> None:
    state = data.shuffle(1).to_torch(batch_size=8).state_dict()
    with pytest.raises(StateMismatchError, match="seed was 1 and is 2"):
        data.shuffle(2).to_torch(batch_size=8).load_state_dict(state)
    with pytest.raises(StateMismatchError, match="now has Filter"):
        data.filter("x > 3").shuffle(1).to_torch(batch_size=8).load_state_dict(state)
    newer = Dataset.from_dict({"x": [1], "y": [1.0]}).append_to("rows")
    with pytest.raises(StateMismatchError, match=r"rows@v1#.*rows@v2#"):
        newer.shuffle(1).to_torch(batch_size=8).load_state_dict(state)


@pytest.mark.parametrize("workers", [0, 2])
def test_metrics_count_what_was_delivered(data: Dataset, workers: int) -> None:
    loader = data.to_torch(batch_size=10, num_workers=workers)
    assert loader.metrics.rows_per_second == 0
    list(loader)
    metrics = loader.metrics
    assert (metrics.batches, metrics.rows) == (11, 101)
    assert 101 * 16 <= metrics.bytes < 101 * 20  # bitmaps of nulls are counted as well
    assert 0 < metrics.waited <= metrics.seconds
    assert metrics.rows_per_second == metrics.rows / metrics.seconds


@pytest.mark.live
@pytest.mark.parametrize(
    ("workers", "method", "collated"),
    [
        (0, None, False),
        (0, None, True),
        (2, "fork", False),
        (2, "fork", True),
        (1, "spawn", True),
    ],
)
def test_metrics_count_files_that_were_there_or_fetched(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, method: str | None, collated: bool
) -> None:
    for row in range(9):
        (tmp_path / f"{row}.bin").write_bytes(b"%d" % row)
    monkeypatch.setattr(BlobStore, "is_local", False)  # as where blobs are in an object store
    files = [str(tmp_path / f"{row}.bin") for row in range(9)]
    Dataset.from_dict({"x": list(range(9)), "f": files}).save("files", column_types={"f": "file"})
    options: dict[str, Any] = {"multiprocessing_context": method, "collate_fn": dict if collated else None}
    loader = Dataset("files").to_torch(batch_size=2, num_workers=workers, load_files="bytes", **options)
    assert [value for batch in loader for value in batch["f"]] == [b"%d" % row for row in range(9)]
    local = method == "spawn"  # where what is patched here is not: its blobs are on this machine
    assert (loader.metrics.cache_hits, loader.metrics.cache_misses) == (9 * local, 9 * (not local))
    assert len(list(loader)) == 5
    assert (loader.metrics.cache_hits, loader.metrics.cache_misses) == (9 + 9 * local, 9 * (not local))
