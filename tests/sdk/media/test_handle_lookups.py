from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lakefeed import Dataset
from lakefeed.catalog.lake import Lake
from lakefeed.storage.blobs.objects import LocalObjects, ObjectInfo
from lakefeed.storage.disk.sqlite_file import Database


def test_neighbours_are_looked_up_together_once(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [f"content {row}".encode() for row in range(300)]
    for row, content in enumerate(contents):
        (tmp_path / f"{row}.bin").write_bytes(content)
    paths = [str(tmp_path / f"{row}.bin") for row in range(300)]
    saved = Dataset.from_dict({"f": [*paths, None]}).save("packed", column_types={"f": "file"})
    asked: list[int] = []
    look_up = Database.look_up

    def counted(database: Database, query: str, keys: Sequence[bytes]) -> Iterator[tuple[Any, ...]]:
        asked.append(len(keys))
        return look_up(database, query, keys)

    monkeypatch.setattr(Database, "look_up", counted)
    cells = [row["f"] for row in saved.rows()]
    assert asked == []
    assert cells[7].bytes() == contents[7]
    assert asked == [128]
    copied = pickle.loads(pickle.dumps(cells[8]))
    assert len(pickle.dumps(cells[8])) < 2_000
    assert [cell.bytes() for cell in reversed(cells[:-1])] == contents[::-1]
    assert sorted(asked)[-3:] == [44, 128, 128]
    assert len(asked) == 4  # the one that was read before is looked up by itself
    assert copied.bytes() == cells[8].bytes() == contents[8]
    assert cells[9].record() == copied.record() | cells[9].record()


def test_a_pack_that_is_new_to_this_machine_is_found_with_all_that_is_in_it(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = [f"content {row}".encode() for row in range(100)]
    for row, content in enumerate(contents):
        (tmp_path / f"{row}.bin").write_bytes(content)
    paths = [str(tmp_path / f"{row}.bin") for row in range(100)]
    Dataset.from_dict({"f": paths}).save("packed", column_types={"f": "file"})
    monkeypatch.setenv("LAKEFEED__CACHE_DIR", str(tmp_path / "elsewhere"))
    cells = [row["f"] for row in Dataset("packed").rows()]
    listed: list[str] = []
    list_objects = LocalObjects.list

    def counted(objects: LocalObjects, folder: str) -> Iterator[ObjectInfo]:
        listed.append(folder)
        return list_objects(objects, folder)

    monkeypatch.setattr(LocalObjects, "list", counted)
    assert [cell.bytes() for cell in cells] == contents
    assert len(listed) == 1
