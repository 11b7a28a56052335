"""Enrichments whose values workers derive: the values of one process, one commit, and nothing is derived twice."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakefeed import Dataset, Table, connect, udf
from lakefeed.catalog.lake import Lake
from lakefeed.compute import Dask, Processes
from lakefeed.compute.compute_engine import run_task
from lakefeed.errors import (
    CommitConflictError,
    DuplicateKeyError,
    FormatError,
    InvalidArgumentError,
    SchemaError,
    TransformError,
)
from lakefeed.keyed import KeyRange, Operation, Shard, Transaction

ID = {"id": pa.int64()}
ROWS, A_GROUP = 240, 20
pytestmark = pytest.mark.usefixtures("small_groups")


class Here:
    """Runs tasks in this process, the last one first, and some of them twice. It counts them."""

    width = 2

    def __init__(self, most: int = 10**9) -> None:
        self.most, self.tasks = most, 0

    def run(self, tasks: list[bytes]) -> Iterator[tuple[int, Any]]:
        for index in reversed(range(len(tasks))):
            if self.tasks == self.most:
                raise KeyboardInterrupt
            self.tasks += 1
            if index % 2:
                run_task(tasks[index])
            yield index, run_task(tasks[index])


@udf(pa.int64())
def doubled(numbers: Any) -> Any:
    return [None if each is None else 2 * each for each in numbers.to_pylist()]


@pytest.fixture
def small_groups(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", str(A_GROUP))


@pytest.fixture
def table(small_groups: None) -> Table:
    """Two files of several row groups, of which some rows are deleted."""
    table = Table.create("pages", key_schema=ID)
    table.write({"id": list(range(0, ROWS, 2)), "x": list(range(0, ROWS, 2))})
    table.write({"id": list(range(1, ROWS, 2)), "x": list(range(1, ROWS, 2))})
    table.delete_keys([3, 4])
    return table


def values(table: Table, column: str) -> dict[int, Any]:
    rows = table.scan("id", column).to_table()
    return dict(zip(rows["id"].to_pylist(), rows[column].to_pylist(), strict=True))


def versions() -> int:
    return len(Dataset("pages").list_versions())


def column_files() -> list[Path]:
    return list((Lake.current().settings.home / "warehouse").rglob("*.c*.parquet"))


LIVE = {n for n in range(ROWS) if n not in (3, 4)}


@pytest.mark.live
def test_values_are_those_of_one_process_and_one_commit(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, before = Here(), versions()
    enrichment = table.enrich({"y": doubled(table["x"]), "half": table["x"] / 2})
    snapshot = enrichment.apply_on(engine, max_task_size=3 * A_GROUP)
    assert snapshot is not None
    assert versions() == before + 1
    assert engine.tasks == 4, "parts of three row groups; the commit joins those of a file"
    assert len(column_files()) == 2 + 2, "parts are removed, but for those of tasks that ran twice"
    assert values(table, "y") == {n: 2 * n for n in LIVE}
    assert values(table, "half") == {n: n / 2 for n in LIVE}
    files = {file.path for data in table.snapshot()._pinned.source.files for file in data.columns}
    assert len(files) == 2
    # Some rows only, by a condition and by shards; the others keep their values.
    shards = [Shard(KeyRange(None, (10,))), Shard(KeyRange((230,), None))]
    table.enrich({"y": table["x"] * 100}, where="x % 5 = 0").apply_on(Here(), shards=shards)
    chosen = {n for n in LIVE if n % 5 == 0 and (n < 10 or n >= 230)}
    assert values(table, "y") == {n: 100 * n if n in chosen else 2 * n for n in LIVE}
    # A column of the rows becomes one of column files, whatever rows are chosen.
    monkeypatch.setattr("lakefeed.keyed.enrichment_runs.JOINED_BYTES", 0)
    engine = Here()
    table.enrich({"x": table["x"] + 1}, where="x < 5").apply_on(engine, max_task_size=A_GROUP)
    assert engine.tasks == 12 + 2, "workers join the parts of a file"
    assert values(table, "x") == {n: n + 1 if n < 5 else n for n in LIVE}
    count = versions()
    assert table.enrich({"y": table["x"]}, where="x > 10000").apply_on(Here()) is None
    assert Table.create("empty", key_schema=ID).enrich({"y": table["x"]}).apply_on(Here()) is None
    assert versions() == count


@pytest.mark.live
def test_other_tables_and_other_writers(table: Table) -> None:
    other = Table.create("other", key_schema=ID)
    other.write({"id": list(range(0, ROWS, 3)), "z": list(range(0, ROWS, 3))})

    class Meanwhile(Here):
        def run(self, tasks: list[bytes]) -> Iterator[tuple[int, Any]]:
            yield from super().run(tasks)
            table.write({"id": [0, 1000], "x": [-5, 1000], "new": ["a", "b"]})
            table.delete_keys([6])

    table.enrich({"w": table["x"] + other["z"]}).apply_on(Meanwhile())
    expected = {n: 2 * n if n % 3 == 0 else None for n in LIVE - {6}} | {0: -5, 1000: None}
    assert values(table, "w") == expected
    assert values(table, "new")[1000] == "b"


@pytest.mark.live
def test_a_second_run_derives_only_what_is_missing(table: Table, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    options: Any = {"max_task_size": 2 * A_GROUP, "checkpoint_dump": folder}
    enrichment = table.enrich({"y": doubled(table["x"])})
    with pytest.raises(KeyboardInterrupt):  # the process is killed after two of six tasks
        enrichment.apply_on(Here(2), **options)
    assert versions() == 4
    assert "y" not in table.schema().names
    # Another writer, and another process with another size of tasks.
    table.write({"id": [500], "x": [500], "more": [1]})
    engine = Here()
    version = (
        Table("pages")
        .enrich({"y": doubled(table["x"])})
        .apply_on(engine, max_task_size=10**6, checkpoint_dump=str(folder))
    )
    assert version is not None
    assert engine.tasks == 1, "what is left of two files, and the new file"
    assert values(table, "y") == {n: 2 * n for n in LIVE | {500}}
    assert not folder.exists()
    assert not list((Lake.current().settings.home / "blobs").rglob("staged/*.json"))
    # Another function is another enrichment: nothing of the checkpoint is used.
    with pytest.raises(KeyboardInterrupt):
        table.enrich({"y": table["x"] * 3}).apply_on(Here(1), **options)
    engine = Here()
    table.enrich({"y": table["x"] * 4}).apply_on(engine, **options)
    assert values(table, "y")[7] == 28
    assert folder.exists(), "the other enrichment is still there"


@pytest.mark.live
def test_a_commit_whose_answer_was_lost_is_found(table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lakefeed.keyed.enrichment_checkpoint import Checkpoint

    folder = tmp_path / "checkpoint"

    def killed(self: Checkpoint) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "end", killed)
        with pytest.raises(KeyboardInterrupt):
            table.enrich({"y": table["x"] * 2}).apply_on(Here(), checkpoint_dump=folder)
    count = versions()
    table.write({"id": [900], "x": [900]})
    engine = Here()
    found = table.enrich({"y": table["x"] * 2}).apply_on(engine, checkpoint_dump=folder)
    assert found is not None
    assert (engine.tasks, found.version, versions()) == (0, count, count + 1)
    table.enrich({"y": table["x"] * 2}).apply_on(Here(), checkpoint_dump=folder)
    assert values(table, "y")[900] == 1800


@pytest.mark.live
def test_a_part_that_fails_leaves_the_others_in_the_checkpoint(table: Table, tmp_path: Path) -> None:
    @udf(pa.int64())
    def picky(numbers: Any) -> Any:
        if 101 in numbers.to_pylist() and not (tmp_path / "mended").exists():
            raise RuntimeError("101 is unlucky")
        return numbers

    folder, size, engine = tmp_path / "checkpoint", 2 * A_GROUP, Here()
    with pytest.raises(RuntimeError, match="101 is unlucky") as caught:
        table.enrich({"y": picky(table["x"])}).apply_on(engine, max_task_size=size, checkpoint_dump=folder)
    assert "nothing was committed: 1 parts failed (row groups 2 to 3 of" in caught.value.__notes__[-1]
    assert "5 others are in the checkpoint; run it again" in caught.value.__notes__[-1]
    assert (engine.tasks, versions()) == (6, 4)
    (tmp_path / "mended").touch()
    engine = Here()
    table.enrich({"y": picky(table["x"])}).apply_on(engine, max_task_size=size, checkpoint_dump=folder)
    assert engine.tasks == 1
    assert values(table, "y") == {n: n for n in LIVE}
    (tmp_path / "mended").unlink()
    before = column_files()
    with pytest.raises(RuntimeError) as caught:
        table.enrich({"z": picky(table["x"])}).apply_on(Here(), max_task_size=size)
    assert "give checkpoint_dump= to keep those that succeed" in caught.value.__notes__[-1]
    assert len(column_files()) <= len(before) + 3, "only files of tasks that ran twice are left"

    @udf(pa.int64())
    def odd(numbers: Any) -> Any:
        class LocalError(Exception):
            pass

        raise LocalError("cannot be sent")

    with pytest.raises(TransformError, match="LocalError: cannot be sent"):
        table.enrich({"z": odd(table["x"])}).apply_on(Here())


@pytest.mark.live
def test_a_dump_is_committed_by_a_transaction(table: Table, tmp_path: Path) -> None:
    """Column files apply where their data file is; elsewhere by key; rows that went or were written again get none."""
    dump = tmp_path / "enrichment.jsonl"
    base = table.snapshot().version
    table.enrich({"y": table["x"] * 2}).apply(txn_dump=dump)
    operations = Transaction.load_dumps(dump)
    assert [(each.kind, each.base, each.columns) for each in operations] == [("column_files", base, ("y",))] * 2
    facts = {**json.loads(operations[0].to_json()), "rows": 7}
    with pytest.raises(InvalidArgumentError, match="has 7 rows for"):
        table.txn(base=base).include([Operation.from_json(json.dumps(facts))])
    table.drop_columns(["y"])
    assert "y" not in table.schema().names
    table.write({"id": [10], "x": [-1]})
    table.delete_keys([20])
    table.compact()
    with table.txn(base=base) as txn:
        txn.write({"id": [2000], "x": [2000], "other": [1]})
        txn.include(operations)
        with pytest.raises(DuplicateKeyError, match="columns 'y' are written twice for the rows of"):
            txn.include(operations[:1])
        with pytest.raises(InvalidArgumentError, match="adds column files of 'y'; compact in another one"):
            txn.compact()
        with pytest.raises(SchemaError, match="this transaction writes"):
            txn.drop_columns(["y"])
    assert values(table, "y") == {n: None if n in (10, 2000) else 2 * n for n in (LIVE | {2000}) - {20}}
    with table.txn(base=base) as txn:
        txn.write({"id": [3000, 8], "y": [1, 1]})
        with pytest.raises(DuplicateKeyError, match=r"by rows and by a column file.*'id': 8"):
            txn.include(operations)
        txn.abort()


@pytest.mark.live
def test_derived_columns_that_others_have_written_since_are_a_conflict(table: Table, tmp_path: Path) -> None:
    dump = tmp_path / "enrichment.jsonl"
    base = table.snapshot().version
    table.enrich({"y": table["x"] * 2}).apply(txn_dump=dump)
    table.enrich({"y": table["x"] * 3}).apply()
    txn = table.txn(base=base)
    txn.include(Transaction.load_dumps(dump))
    with pytest.raises(CommitConflictError, match="another writer has written columns 'y'"):
        txn.commit()
    assert values(table, "y")[7] == 21


@pytest.mark.live
def test_bad_arguments_and_damaged_checkpoints(table: Table, tmp_path: Path) -> None:
    enrichment = table.enrich({"y": table["x"] * 2})
    file = tmp_path / "file"
    file.write_text("x")
    for options in (
        {"max_task_size": 0}, {"max_task_size": 1.5}, {"max_task_size": True}, {"checkpoint_dump": 7},
        {"checkpoint_dump": file}, {"shards": [1]}, {"txn_dump": 7}, {"shards": "x"},
    ):  # fmt: skip
        with pytest.raises(InvalidArgumentError):
            enrichment.apply_on(Here(), **options)  # type: ignore[arg-type]
    for engine in (Here, None, "dask"):
        with pytest.raises(InvalidArgumentError, match="engine must be an Engine"):
            enrichment.apply_on(engine)  # type: ignore[arg-type]
    for client in (7, "tcp://x"):
        with pytest.raises(InvalidArgumentError, match="client"):
            enrichment.apply_dask(client=client)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="either a client, or arguments"):
        enrichment.apply_dask(client=7, n_workers=2)  # type: ignore[arg-type]
    lock = threading.Lock()

    @udf(pa.int64())
    def locked(numbers: Any) -> Any:
        with lock:
            return numbers

    with pytest.raises(InvalidArgumentError, match="the projections cannot be sent to other processes"):
        table.enrich({"y": locked(table["x"])}).apply_on(Here())
    folder = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        enrichment.apply_on(Here(1), max_task_size=A_GROUP, checkpoint_dump=folder)
    part = next(path for path in folder.iterdir() if "-" in path.name)
    part.write_text(json.dumps({"format": 1}))
    with pytest.raises(FormatError, match=r"is not of a checkpoint.*remove it"):
        enrichment.apply_on(Here(), checkpoint_dump=folder)
    part.unlink()
    enrichment.apply_on(Here(), checkpoint_dump=folder)
    assert connect().scan(table["y"]).to_table().num_rows == len(LIVE)
    assert Dask(client=None).width >= 1
    assert Processes(2).width == 2
