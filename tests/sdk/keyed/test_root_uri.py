"""Tables whose files lie below a root of their own."""

from __future__ import annotations

import datetime as dt
import os
import shutil
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest

from lakefeed import Dataset, Table, collect_garbage, connect
from lakefeed.errors import (
    DatasetExistsError,
    InvalidArgumentError,
    LakefeedError,
    SharedWarehouseError,
    StorageError,
)
from tests.sdk.s3 import new_bucket, s3_server
from tests.sdk.test_garbage import age

KEY = {"id": pa.int64()}


def filled(name: str, root: Any, **options: Any) -> Table:
    """A table of several files, with column files and a delete file."""
    table = Table.create(name, key_schema=KEY, root_uri=root, **options)
    table.write({"id": [1, 2, 3, 4], "x": [1, 2, 3, 4]})
    table.enrich({"y": table["x"] * 2}).apply()
    table.delete_keys([2])
    table.write({"id": [5], "x": [5], "y": [0]})
    return table


def rows(table: Table) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in table.scan().to_table().to_pylist()]


ROWS = [(1, 1, 2), (3, 3, 6), (4, 4, 8), (5, 5, 0)]


def test_tables_below_a_root_of_their_own(home: Path, tmp_path: Path) -> None:
    root = tmp_path / "far" / "away ä"
    table = filled("web.pages", str(root))
    assert rows(table) == rows(Table("web.pages")) == ROWS
    inside = [path for path in root.rglob("*") if path.is_file()]
    assert len(inside) > 10
    assert not list((home / "warehouse").rglob("*.parquet"))
    assert table.compact().version == 6
    assert connect().create_table("web.pages", key_schema=KEY, exist_ok=True) == table
    assert connect().create_table("web.pages", key_schema=KEY, root_uri=f"{root}/", exist_ok=True) == table
    with pytest.raises(DatasetExistsError, match="not below"):
        connect().create_table("web.pages", key_schema=KEY, root_uri=str(tmp_path / "x"), exist_ok=True)
    moved = connect().move_table("web.pages", "books")
    assert rows(connect().rename_table(moved.identifier, "all")) == ROWS
    other = Table.create("other", key_schema=KEY, root_uri=f"file://{root}")
    (folder,) = root.glob("web/pages-*/data")
    orphan = folder / "orphan.parquet"
    shutil.copy(next(folder.glob("*.parquet")), orphan)
    before = {path for path in root.rglob("*") if path.is_file()} - {orphan}
    age(root)
    report = collect_garbage(dry_run=False, grace=dt.timedelta(0))
    assert [each.rpartition("/")[2] for each in report.locations] == ["orphan.parquet"]
    assert {path for path in root.rglob("*") if path.is_file()} == before
    connect().drop_table("books.all")
    assert not list(root.glob("web/*/data/*.parquet"))
    assert rows(other) == []
    connect().drop_table("other")
    assert not [path for path in root.rglob("*") if path.is_file()]
    assert collect_garbage().table_files == 0


@pytest.mark.live
def test_roots_that_move_with_the_lake_or_are_shared_by_copies(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, outside = filled("inside", str(home / "extra")), filled("outside", str(tmp_path / "outside"))
    copy = tmp_path / "copy"
    shutil.copytree(home, copy)
    monkeypatch.setenv("LAKEFEED_HOME", str(copy))
    assert rows(Table("inside")) == rows(Table("outside")) == ROWS
    Table("inside").write({"id": [9], "x": [9], "y": [9]})
    for change in (
        lambda: Table("outside").write({"id": [9], "x": [9]}),
        lambda: connect().drop_table("outside"),
        lambda: Table("outside").compact(),
    ):
        with pytest.raises(SharedWarehouseError, match="belongs to the catalog"):
            change()
    age(tmp_path / "outside")
    collect_garbage(dry_run=False, grace=dt.timedelta(0))
    monkeypatch.setenv("LAKEFEED_HOME", str(home))
    assert rows(inside) == rows(outside) == ROWS
    moved = home.rename(tmp_path / "moved")
    shutil.rmtree(copy)
    monkeypatch.setenv("LAKEFEED_HOME", str(moved))
    for name in ("inside", "outside"):
        assert rows(Table(name)) == ROWS
        Table(name).write({"id": [9], "x": [9], "y": [9]})
        assert rows(Table(name))[-1] == (9, 9, 9)
        Dataset(name).delete(permanent=True)
    assert not [path for path in (moved / "extra", tmp_path / "outside") if list(path.rglob("*.parquet"))]


def test_what_is_no_root(home: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for bad in ("", "relative/path", "http://host/x", "s3://", "ftp://x/y", "/a/../b", "/a#b", "s3://u:p@b/x", 7, "\0"):
        with pytest.raises((InvalidArgumentError, LakefeedError)) as raised:
            Table.create("bad", key_schema=KEY, root_uri=bad)  # type: ignore[arg-type]
        assert "root_uri" in str(raised.value)
    with pytest.raises(InvalidArgumentError, match="is a file"):
        Table.create("bad", key_schema=KEY, root_uri=str(tmp_path / "file"))
    if os.getuid():
        with pytest.raises(StorageError):
            Table.create("bad", key_schema=KEY, root_uri="/proc/none")
    assert not Dataset.exists("bad")


@pytest.mark.live
def test_roots_in_an_object_store(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server() as options:
        bucket = new_bucket(options, "roots")
        for name, value in (
            ("AWS_ACCESS_KEY_ID", "any"),
            ("AWS_SECRET_ACCESS_KEY", "any"),
            ("AWS_ENDPOINT_URL", options["client_kwargs"]["endpoint_url"]),
            ("AWS_REGION", "us-east-1"),
        ):
            monkeypatch.setenv(name, value)
        store = fsspec.filesystem("s3", **options)
        table = filled("remote", f"{bucket}/deep/folder")
        assert rows(table) == ROWS
        files = store.find("roots/deep/folder")
        assert len(files) > 10
        (data,) = {path.rpartition("/")[0] for path in files if path.endswith(".parquet")}
        store.pipe_file(f"{data}/orphan.parquet", b"x")
        assert collect_garbage(dry_run=False, grace=dt.timedelta(0)).table_files == 0  # it is young
        connect().drop_table("remote")
        store.invalidate_cache()
        assert [path for path in store.find("roots/deep/folder") if not path.endswith("/")] == []
