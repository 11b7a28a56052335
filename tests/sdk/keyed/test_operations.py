"""Operations of transactions that travel to another process: nothing is lost, nothing conflicts unseen."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakefeed import Dataset, Table, collect_garbage
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.staged_files import STAGED_SECONDS
from lakefeed.errors import (
    ColumnNotFoundError,
    CommitConflictError,
    DuplicateKeyError,
    FormatError,
    IntegrityError,
    InvalidArgumentError,
    MissingFileError,
    SchemaError,
    TypeMismatchError,
    VersionNotFoundError,
)
from lakefeed.keyed import Operation, Transaction
from tests.sdk.test_garbage import age, write

ID = {"id": pa.int64()}


def columns(table: Table) -> dict[str, list[Any]]:
    return table.scan().to_table().to_pydict()


def staged(table: Table, rows: Any) -> list[Operation]:
    txn = table.txn()
    txn.write(rows)
    return txn.take()


@pytest.fixture
def table(home: Path) -> Table:
    table = Table.create("pages", key_schema=ID)
    table.write({"id": [1, 2, 3], "text": ["a", "b", "c"], "score": [1.0, 2.0, 3.0]})
    return table


def travelled(operations: list[Operation]) -> list[Operation]:
    """The operations as another process gets them."""
    lines = [operation.to_json() for operation in operations]
    assert all("\n" not in line and json.loads(line)["format"] == 1 for line in lines)
    arrived = [Operation.from_json(line) for line in lines]
    assert arrived == operations
    return arrived


def test_operations_of_several_workers_are_one_version(table: Table) -> None:
    whole = staged(table, {"id": [4, 2], "text": ["d", "bb"], "score": [4.0, 22.0]})
    part = staged(table, {"id": [1], "score": [11.0]})
    new = staged(table, {"id": [3, 9], "size.w": [3, 9]})
    worker = table.txn()
    worker.delete_keys([3, 77])
    assert columns(table)["id"] == [1, 2, 3], "nothing is visible before the commit"
    with pytest.raises(DuplicateKeyError, match=r"written and deleted.*'id': 3"):
        worker.include(travelled(new))
    gone = worker.take()
    assert worker.status == "taken"
    for unusable in (worker.commit, worker.take, worker.abort, worker.compact, lambda: worker.write({"id": [1]})):
        with pytest.raises(InvalidArgumentError, match="were taken; include them in another one"):
            unusable()
    with table.txn() as txn:
        assert txn.is_empty()
        txn.include(travelled([*whole, *part]))
        txn.include(travelled(gone))
        txn.write({"id": [5], "text": ["x"]})
        assert not txn.is_empty()
    assert Dataset("pages").list_versions()[0].version == 3
    assert columns(table) == {
        "id": [1, 2, 4, 5],
        "text": ["a", "bb", "d", "x"],
        "score": [11.0, 22.0, 4.0, None],
    }
    files = {file.path for file in table.snapshot()._pinned.source.files}
    assert set(whole[0].paths) <= files, "rows with all columns become a file of the table as they are"
    assert len(list((Lake.current().settings.home / "blobs").rglob("staged/*.json"))) == 1, "of the refused one"


def test_rows_are_looked_up_anew_when_others_commit_first(table: Table) -> None:
    txn = table.txn()
    txn.include([*staged(table, {"id": [2, 8], "text": ["mine", "new"], "score": [0.5, 0.5]})])
    table.write({"id": [8, 2], "text": ["theirs", "theirs"], "extra": [1, 2]})
    txn.commit()
    assert columns(table)["text"] == ["a", "mine", "c", "new"]
    assert columns(table)["extra"] == [None, 2, None, 1]
    late = [replace(each, base=3) for each in staged(table, {"id": [1], "text": ["late"]})]
    with pytest.raises(CommitConflictError, match=r"began at version 3.*txn\(base=3\)"):
        table.txn().include(late)
    with table.txn(base=3) as txn:
        txn.include(late)
    assert columns(table)["text"][0] == "late"
    for base, error in ((99, VersionNotFoundError), (0, VersionNotFoundError), (-1, InvalidArgumentError)):
        with pytest.raises(error):
            table.txn(base=base)


def test_conflicts_are_named_and_nothing_is_included(table: Table) -> None:
    txn = table.txn()
    txn.write({"id": [1], "text": ["x"]})
    other = Table.create("other", key_schema=ID)
    drop = table.txn()
    drop.drop_columns(["text"])
    delete = table.txn()
    delete.delete_keys([1])
    wrong = staged(table, {"id": [7], "new": ["text"]})
    cases = [
        (staged(other, {"id": [1], "y": [1]}), InvalidArgumentError, r"of the table 'other'.*not of 'pages'"),
        (staged(table, {"id": [2, 1], "text": ["a", "b"]}), DuplicateKeyError, r"written to \['text'\].*'id': 1"),
        (delete.take(), DuplicateKeyError, r"written and deleted.*'id': 1"),
        (drop.take(), SchemaError, r"this transaction writes \['text'\]"),
        ([*wrong, *wrong], DuplicateKeyError, "'id': 7"),
    ]  # fmt: skip
    for operations, error, message in cases:
        with pytest.raises(error, match=message):
            txn.include([*staged(table, {"id": [50], "text": ["fine"]}), *operations])
    for bad in ("x", [1], None, {}):
        with pytest.raises(InvalidArgumentError, match="ops must be a list of operations"):
            txn.include(bad)  # type: ignore[arg-type]
    txn.commit()
    assert columns(table)["id"] == [1, 2, 3]
    dropping = table.txn()
    dropping.drop_columns(["score"])
    with pytest.raises(SchemaError, match=r"drops \['score'\]"):
        dropping.include(staged(table, {"id": [1], "score": [0.0]}))
    dropping.commit()
    with table.txn() as txn, pytest.raises(ColumnNotFoundError, match="score"):
        txn.include([Operation("drop_columns", "pages", wrong[0].table_uuid, 99, ("score",))])
    table.write({"id": [7], "new": [1]})
    with table.txn(base=2) as txn, pytest.raises(TypeMismatchError, match="new"):
        txn.include(wrong)


def test_dumps_are_lines_of_json_that_survive_a_failure(table: Table, tmp_path: Path) -> None:
    dump = tmp_path / "dumps" / "txn.jsonl"
    txn = table.txn()
    txn.write({"id": [4], "text": ["d"], "score": [None]})
    txn.delete_keys([1])
    txn.dump(str(dump))
    assert [json.loads(line)["kind"] for line in dump.read_text().splitlines()] == ["delete_keys", "rows"]
    assert [path.name for path in dump.parent.iterdir()] == ["txn.jsonl"]
    assert txn.status == "open"
    version = txn.commit(txn_dump=dump, compact=True, idempotency_key="once")
    assert version is not None
    assert [json.loads(line)["kind"] for line in dump.read_text().splitlines()] == ["delete_keys", "rows", "compact"]
    # The answer was lost: another process commits the same again, after others have written.
    table.write({"id": [4], "text": ["newer"]})
    operations = Transaction.load_dumps(dump, str(dump))
    assert [each.kind for each in operations] == ["delete_keys", "rows", "compact"]
    again = table.txn(base=operations[0].base)
    again.include(operations)
    found = again.commit(idempotency_key="once")
    assert found is not None
    assert found.version == version.version
    assert columns(table)["text"] == ["b", "c", "newer"]
    dump.write_text("{}\n")
    with pytest.raises(FormatError, match=r"txn.jsonl, line 1: this is not an operation"):
        Transaction.load_dumps(dump)
    dump.write_bytes(b"\xff\xfe")
    with pytest.raises(FormatError, match="not text"):
        Transaction.load_dumps(dump)
    for missing in (tmp_path / "nothing", tmp_path):
        with pytest.raises(MissingFileError, match="no dump"):
            Transaction.load_dumps(missing)


def test_operations_that_were_tampered_with_are_refused(table: Table) -> None:
    (operation,) = staged(table, {"id": [1], "text": ["x"], "score": [0.0]})
    facts = json.loads(operation.to_json())
    changes: list[dict[str, Any]] = [
        {"format": 2}, {"kind": "shell"}, {"base": "1"}, {"base": True}, {"columns": "x"}, {"columns": [1]},
        {"schema": None}, {"schema": "AAAA"}, {"id": "../x"}, {"files": [{}]}, {"files": 7}, {"rows": None},
        {"files": [{**facts["files"][0], "rows": -1}]}, {"more": 1},
    ]  # fmt: skip
    for change in changes:
        with pytest.raises(FormatError, match="not an operation"):
            Operation.from_json(json.dumps({**facts, **change}))
    for text in ("", "[]", "7", "null", "{", None, 7, b"\xff", "[" * 100_000):
        with pytest.raises(FormatError):
            Operation.from_json(text)
    path = facts["files"][0]["path"]
    for outside in ("/etc/passwd", path.replace("/data/", "/data/../../../../")):
        moved = Operation.from_json(json.dumps({**facts, "files": [{**facts["files"][0], "path": outside}]}))
        with pytest.raises(InvalidArgumentError, match="not in the folder of 'pages'"):
            table.txn().include([moved])
    shorter = Operation.from_json(json.dumps({**facts, "files": [{**facts["files"][0], "bytes": 1}]}))
    with pytest.raises(IntegrityError, match="bytes instead of"):
        table.txn().include([shorter])


def test_gc_keeps_what_travels_for_its_time(table: Table, home: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "file.bin", b"x" * (2 << 20))
    rows = {"id": [4], "text": ["d"], "score": [0.0], "file": [str(file)]}
    txn = table.txn(column_types={"file": "file"})
    txn.write(rows)
    operations = travelled(txn.take())
    age(home)
    for mark in (home / "blobs").rglob("staged/*.json"):
        mark.touch()  # the week has not passed
    report = collect_garbage(False, grace=dt.timedelta(0), patience=dt.timedelta(0))
    assert (report.blobs, report.packs, report.table_files) == (0, 0, 0)
    with table.txn() as txn:
        txn.include(operations)
    assert [row["file"] and row["file"].bytes()[:1] for row in Dataset("pages").rows()] == [None, None, None, b"x"]
    lost = staged(table, {"id": [9], "text": ["z"]})
    age(home, hours=STAGED_SECONDS / 3600 + 1)
    report = collect_garbage(False, grace=dt.timedelta(0), patience=dt.timedelta(0))
    assert report.table_files
    with table.txn() as txn, pytest.raises(MissingFileError, match=r"staged file .* is gone.*Make the operation again"):
        txn.include(lost)
    assert not list((home / "blobs").rglob("staged/*.json"))
