"""The commands of keyed tables, their indexes, and versions on local disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from lakefeed import Dataset, Table, list_datasets
from lakefeed.cli.main import cli
from lakefeed.keyed import Transaction
from lakefeed.mirrors import list_mirrors


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, list(arguments))
    assert result.exit_code == code, result.output
    return result


def lines(*arguments: str, code: int = 0) -> list[list[str]]:
    return [line.split("\t") for line in run(*arguments, "--no-header", code=code).stdout.splitlines()]


def test_rows_are_written_and_deleted_by_key(tmp_path: Path, home: Path) -> None:
    for command in (("table", "ls"), ("index", "ls"), ("cache", "ls")):
        assert lines(*command) == []
    assert not home.exists()
    first, second = tmp_path / "a.csv", tmp_path / "b.jsonl"
    first.write_text("user,day,x\n1,a,1\n1,b,2\n2,a,3\n")
    second.write_text('{"user": 2, "day": "a", "y": 5}\n{"user": 9, "day": "é", "y": 6}\n')
    assert "--key" in run("table", "upsert", "visits", str(first), code=4).stderr
    assert "no column 'none'" in run("table", "upsert", "visits", str(first), "--key", "none", code=1).stderr
    run("table", "upsert", "visits", str(first), "--key", "user,day", "-n")
    assert not Dataset.exists("visits")
    run("table", "upsert", "visits", str(first), "--key", "user,day", "-m", "First")
    assert Dataset("visits").list_versions()[0].message == "First"
    assert "visits is now version 3, 4 rows" in run("table", "upsert", "visits", str(second)).stderr
    assert (
        "the key of visits is user, day" in run("table", "upsert", "visits", str(first), "--key", "day", code=1).stderr
    )
    assert [line[:4] for line in lines("table", "ls")] == [["visits", "user,day", "3", "4"]]
    shown = json.loads(run("table", "show", "visits", "--json").stdout)
    assert (shown["key"], shown["columns"][3]) == (["user", "day"], {"name": "y", "type": "int64", "key": False})
    keys = ('{"user": 9, "day": "é"}', '{"day": "z", "user": 1}')
    assert "1 row with 2 keys" in run("table", "delete", "visits", *keys, code=3).stderr
    assert "not a JSON object" in run("table", "delete", "visits", "9", "-y", code=2).stderr
    assert "do not fit" in run("table", "delete", "visits", '{"user": "x", "day": "a"}', "-y", code=1).stderr
    run("table", "delete", "visits", *keys, "-y")
    assert "nothing to delete" in run("table", "delete", "visits", *keys, "-y").stderr
    run("table", "delete", "visits", "-f", str(first), "-y")
    assert Dataset("visits").count() == 0
    Dataset.from_dict({"x": [1]}).save("rows")
    assert "key" in run("table", "show", "rows", code=1).stderr


def test_a_key_may_begin_with_a_minus() -> None:
    Table.create("numbers", key_schema={"id": pa.int64()}).write({"id": [-1, 1]})
    run("table", "delete", "numbers", "-y", "--", "-1")
    assert Dataset("numbers").to_arrow()["id"].to_pylist() == [1]
    Table("numbers").write({"id": [0]})
    assert "compact" in run("table", "compact", "numbers").stderr
    assert run("table", "compact", "numbers").stderr == "numbers is compact\n"


def test_indexes_are_created_searched_and_removed() -> None:
    pytest.importorskip("tantivy")
    pytest.importorskip("faiss")
    photos = Table.create("photos", key_schema={"id": pa.int64()})
    photos.write({"id": [1, 2], "caption": ["a black cat", "dogs"], "v": [[1.0, 0.0], [0.0, 1.0]], "year": [1, 2]})
    run("index", "create", "words", "photos", code=2)
    run("index", "create", "words", "photos", "--text", "caption", "--filters", "year")
    run("index", "create", "near", "photos", "--vector", "v", "--metric", "l2")
    assert [line[:3] for line in lines("index", "ls")] == [["near", "vector", "photos"], ["words", "text", "photos"]]
    assert [line[0::2] for line in lines("index", "search", "words", "cat", "-c", "caption")] == [["1", "a black cat"]]
    assert lines("index", "search", "words", "cat", "-w", "year == 2") == []
    assert [line[0] for line in lines("index", "search", "near", "[0, 1]", "-n", "1")] == ["2"]
    assert "JSON list" in run("index", "search", "near", "cat", code=2).stderr
    photos.write({"id": [3], "caption": ["another cat"]})
    assert lines("index", "search", "words", "another", "--max-age", "3600") == []
    assert run("index", "refresh", "words").stderr == "index words has version 3 of photos\n"
    assert [line[0] for line in lines("index", "search", "words", "another")] == ["3"]
    run("index", "rm", "words", code=3)
    run("index", "rm", "words", "--yes")
    assert json.loads(run("table", "show", "photos", "--json").stdout)["indexes"] == ["near"]


def test_versions_on_local_disk_are_listed_and_removed() -> None:
    Dataset.from_dict({"id": [1, 2], "x": ["a", "b"]}).save("rows")
    Dataset.from_dict({"id": [3], "x": ["c"]}).append_to("rows")
    run("cache", "rows@1")
    run("cache", "--no-files", "rows")
    assert [line[:3] for line in lines("cache", "ls", "r*")] == [["rows", "1", "2"], ["rows", "2", "3"]]
    assert run("cache", "rm", "rows@2", "--older", "-n").stderr.startswith(
        "would remove from local disk: rows version 1 ("
    )
    run("cache", "rm", "rows", code=3)
    run("cache", "rm", "rows@v1", "--yes")
    assert [each.version for each in list_mirrors()] == [2]
    Dataset("rows").delete(permanent=True)
    run("cache", "rm", "rows", "--yes")
    assert run("cache", "rm", "rows", "--yes").stderr == "nothing to remove\n"
    assert "no dataset 'none'" in run("cache", "none", code=4).stderr
    assert "--no-files" in run("cache", "-h").stdout


def test_a_first_upsert_that_fails_leaves_nothing(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Dataset.from_dict({"id": [1]}).save("other")
    files = sorted(path for path in home.rglob("*") if path.is_file() and "catalog.db" not in path.name)
    rows = tmp_path / "rows.csv"
    for text, problem in (("id,x\n1,a\n1,b\n", "more than once"), ("id,x\n1,a\n,b\n", "null in row 1")):
        rows.write_text(text)
        assert problem in run("table", "upsert", "t", str(rows), "--key", "id", code=1).stderr
    rows.write_text("id,x\n1,a\n")
    for error, code in ((KeyboardInterrupt(), 130), (OSError("no space left"), 1)):
        with monkeypatch.context() as patch:
            patch.setattr(Transaction, "commit", _raise(error))
            run("table", "upsert", "t", str(rows), "--key", "id", code=code)
    assert [each.name for each in list_datasets()] == ["other"]
    assert files == sorted(path for path in home.rglob("*") if path.is_file() and "catalog.db" not in path.name)
    assert run("head", "t", code=4).stderr == "lakefeed: no dataset 't'. The datasets are 'other'.\n"

    def write_and_fail(self: Transaction, **options: object) -> None:
        Dataset.from_dict({"id": [7]}).append_to("t")
        raise OSError("lost")

    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "commit", write_and_fail)
        run("table", "upsert", "t", str(rows), "--key", "id", code=1)
    assert lines("head", "t") == [["7"]]  # of another writer, so it stays
    assert "t is now version 3, 2 rows" in run("table", "upsert", "t", str(rows)).stderr


def _raise(error: BaseException) -> Callable[..., None]:
    def raising(*arguments: object, **options: object) -> None:
        raise error

    return raising
