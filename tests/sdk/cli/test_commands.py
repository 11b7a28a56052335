"""The command line: results, messages, exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from lakefeed import Dataset, Table, diagnosis
from lakefeed.catalog.lake import Lake
from lakefeed.cli import cell_text, invocation
from lakefeed.cli.command_groups import command_paths
from lakefeed.cli.main import cli


def run(*arguments: str, input: str | None = None, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, list(arguments), input=input)
    assert result.exit_code == code, result.output
    return result


def lines(*arguments: str, code: int = 0) -> list[list[str]]:
    return [line.split("\t") for line in run(*arguments, code=code).stdout.splitlines()]


def document(*arguments: str) -> object:
    return json.loads(run(*arguments, "--json").stdout)


@pytest.fixture
def pets() -> Dataset:
    Dataset.from_dict({"id": [1, 2], "label": ["cat", "dog"]}).save("pets", description="Animals")
    return Dataset.from_dict({"id": [3], "label": ["a\tb\\\n\x1b[31m"]}).append_to("pets")


def test_an_empty_lake_is_no_error(home: Path) -> None:
    result = run("ls")
    assert result.stdout.splitlines() == ["dataset\tversion\trows\tbytes\tfiles\tchanged\tby\ttags\tlabel"]
    assert result.stderr == f"no datasets in {home}\n"
    assert run("ls", "-q").stderr == ""
    assert document("ls") == []
    assert completions("lakefeed head ") == []
    run("sql", "SELECT * FROM x", code=4)
    assert not home.exists()
    assert "The datasets are (none)" in run("head", "pets", code=4).stderr
    assert run("gone", code=2).stdout == ""


def test_datasets_and_versions_are_listed(pets: Dataset) -> None:
    assert run("log", "pets", "-n", "9" * 30).stdout == run("log", "pets").stdout
    Dataset("pets").tag("stable", 1)
    heading, row = lines("ls")
    facts = dict(zip(heading, row, strict=True))
    assert (facts["dataset"], facts["version"], facts["rows"], facts["tags"]) == ("pets", "2", "3", "stable")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", facts["changed"])
    assert lines("ls", "x*", "--no-header") == []
    assert [line[:1] for line in lines("ls", "pe*", "--no-header")] == [["pets"]]
    assert [line[0] for line in lines("log", "pets", "--no-header")] == ["2", "1"]
    assert [line[0] for line in lines("log", "pets@1", "--no-header")] == ["1"]
    assert [line[0] for line in lines("log", "pets", "--no-header", "-n", "1")] == ["2"]
    shown = document("show", "pets@stable")
    assert isinstance(shown, dict)
    assert (shown["version"], shown["rows"], shown["description"], shown["tags"]) == (1, 2, "Animals", ["stable"])
    assert shown["columns"][0] == {"name": "id", "type": "int64", "nullable": True}


def test_rows_are_complete_in_pipes_and_json(pets: Dataset) -> None:
    assert lines("head", "pets", "-w", "id == 3") == [["id", "label"], ["3", r"a\tb\\\n\x1b[31m"]]
    assert document("head", "pets", "-w", "id == 3") == [{"id": 3, "label": "a\tb\\\n\x1b[31m"}]
    assert lines("head", "pets@1", "-c", "label", "-n", "1") == [["label"], ["cat"]]
    assert run("count", "pets", "-w", "id > 1").stdout == "2\n"
    assert document("count", "pets") == {"rows": 3}
    assert lines("added", "pets", "-c", "id") == [["id"], ["3"]]
    assert lines("added", "pets@2", "--since", "v1", "-c", "id") == [["id"], ["3"]]
    assert document("sql", "SELECT max(id) AS last FROM pets") == [{"last": 3}]
    assert document("sql", "SELECT old.id FROM old JOIN pets USING (id) WHERE id = 2", "-t", "old=pets@1") == [
        {"id": 2}
    ]


VALUES = {
    "bytes": pa.array([b"\x00\xff", None], pa.binary()),
    "floats": pa.array([float("nan"), 1e300]),
    "lists": pa.array([list(range(1000)), []], pa.list_(pa.int64())),
    "structs": pa.array([{"a": {"b": "x"}}, None], pa.struct({"a": pa.struct({"b": pa.string()})})),
    "time": pa.array([1_700_000_000_000_000, None], pa.timestamp("us", "UTC")),
    "text": pa.array(["ü" * 500, ""]),
    "flag": pa.array([True, None]),
}


def test_values_of_all_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    Dataset.from_arrow(pa.table(VALUES)).save("values")
    first, second = document("head", "values")  # type: ignore[misc]  # a list
    assert (first["bytes"], first["floats"], len(first["lists"]), first["structs"]) == (
        "AP8=",
        None,
        1000,
        {"a": {"b": "x"}},
    )
    assert second == dict.fromkeys(VALUES) | {"floats": 1e300, "lists": [], "text": ""}
    _, row, nulls = lines("head", "values")
    assert row[3:5] == ['{"a": {"b": "x"}}', "2023-11-14T22:13:20+00:00"]
    assert nulls == ["", "1e+300", "[]", "", "", "", ""]
    monkeypatch.setattr(invocation, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "300")
    shown = run("head", "values").stdout
    assert "<2 bytes 00ff>" in shown
    assert "0, 1, 2, 3, 4, 5, 6, 7, … 992 more" in shown
    assert "{a: {b: x}}" in shown
    assert "ü" * 81 not in shown
    assert "\x1b" not in shown


def test_wide_tables_show_the_columns_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    Dataset.from_dict({f"column_{number}": ["x" * 30] for number in range(200)}).save("wide")
    monkeypatch.setattr(invocation, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    shown = run("head", "wide").stdout.splitlines()
    assert max(map(len, shown)) <= 100
    assert len(shown) < 8
    assert shown[-1].startswith("… 195 more columns: column_5, column_6")
    assert shown[0].split() == [f"column_{number}" for number in range(5)]
    assert len(run("head", "wide", "-c", "column_1").stdout.splitlines()) == 2


def test_exit_codes(pets: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Did you mean 'pets'?" in run("log", "pet", code=4).stderr
    assert "'2', '1'" in run("head", "pets@9", code=4).stderr
    assert "no tag 'old'" in run("head", "pets@old", code=4).stderr
    assert "Did you mean 'pets'?" in run("sql", "SELECT * FROM petz", code=4).stderr
    assert "names no version" in run("head", "pets@", code=2).stderr
    assert "of one dataset" in run("diff", "pets@1", "other", code=2).stderr
    assert "Did you mean one of: 'log', 'ls'?" in run("logs", code=2).stderr
    assert "invalid dataset name" in run("head", "Pets !", code=1).stderr
    assert run("head", "pets", "-w", "id ==", code=1).stderr.startswith("lakefeed: ")
    assert run("diff", "pets", "--exit-code", code=10).stdout.splitlines()[1] == "+1 -0 rows"
    assert run("diff", "pets@2", "pets@2", "--exit-code").stdout.splitlines()[1] == "+0 -0 rows"
    for error, message in ((KeyError("x"), "lakefeed: unexpected KeyError: 'x' (--debug shows where)\n"),):
        monkeypatch.setattr(Lake, "current", _raise(error))
        assert run("ls", code=1).stderr == message
        assert "Traceback" in run("ls", "--debug", code=1).stderr
    monkeypatch.setattr(Lake, "current", _raise(KeyboardInterrupt()))
    assert run("ls", code=130).stderr.endswith("lakefeed: interrupted\n")


def test_rows_that_differ() -> None:
    Dataset.from_dict({"id": [1, 2, 3], "x": ["a", "b", "c"]}).save("rows")
    Dataset.from_dict({"id": [2, 4], "x": ["B", "d"]}).upsert_into("rows", keys="id")
    Dataset("rows").delete_rows("id == 1")
    shown = run("diff", "rows@1", "--keys", "id", "--rows", "9").stdout.splitlines()
    assert shown == ["rows v1 -> v3", "+1 -1 ~1 rows", "change\tid\tx", "-\t1\ta", "+\t4\td", "~-\t2\tb", "~+\t2\tB"]
    assert run("diff", "rows@1", "--rows", "1").stdout.splitlines()[3:] == ["-\t1\ta", "+\t2\tB"]
    Dataset("rows").restore(1)
    Dataset("rows").add_column("y", pa.int64())
    restored = document("diff", "rows@3", "rows@4", "--rows", "9")
    assert isinstance(restored, dict)
    sides = [(row["change"], row["before"] or row["after"]) for row in restored["rows"]]
    rows = sorted((change, row["id"], row["x"]) for change, row in sides)
    assert rows == [("added", 1, "a"), ("added", 2, "b"), ("removed", 2, "B"), ("removed", 4, "d")]
    assert run("diff", "rows@1", "rows@4", "--rows", "9", "--exit-code").stdout.splitlines()[2:] == []
    assert "+ column y: int64" in run("diff", "rows@1", "rows").stdout
    table = Table.create("keyed", key_schema={"id": pa.int64()})
    table.write({"id": [1, 2], "x": [1, 2]})
    table.enrich({"y": table["x"] * 2}, where="id = 2").apply()
    shown = run("diff", "keyed@2", "keyed@3", "--keys", "id", "--rows", "9").stdout.splitlines()
    assert shown == [
        "keyed v2 -> v3",
        "+0 -0 ~1 rows",
        "+ column y: int64",
        "change\tid\tx\ty",
        "~-\t2\t2\t",
        "~+\t2\t2\t4",
    ]


def test_time_references(pets: Dataset) -> None:
    changed = str(document("show", "pets@1")["changed"])  # type: ignore[call-overload, index]
    assert document("count", f"pets@{changed}") == {"rows": 2}
    assert document("count", "pets@2100-01-01") == {"rows": 3}
    assert "no version as of 2000-01-0" in run("count", "pets@2000-01-01", code=4).stderr


def test_deleting_asks(pets: Dataset) -> None:
    refused = run("rm", "pets", code=3).stderr
    assert refused == "lakefeed: refused: nobody to ask. pets: 2 versions, 3 rows\nnext: lakefeed rm pets --yes\n"
    assert run("rm", "pets", "--dry-run").stderr == "would delete pets: 2 versions, 3 rows\n"
    assert run("rm", "pets", "--rows", "id > 1", "-y").stderr == "pets is now version 3, 1 row\n"
    assert "nothing to delete" in run("rm", "pets", "--rows", "id > 1", "-y").stderr
    assert run("restore", "pets", code=2).stdout == ""
    assert run("restore", "pets@1", "-m", "Oops").stderr == "pets is now version 4: 2 rows of version 1\n"
    assert Dataset("pets").list_versions()[0].message == "Oops"
    run("rm", "pets", "--yes", "--quiet")
    assert not Dataset.exists("pets")
    assert "no dataset 'pets'" in run("rm", "pets", "--yes", code=4).stderr


def test_a_person_is_asked(pets: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invocation, "can_ask", lambda: True)
    assert "nothing was changed" in run("rm", "pets", input="n\n", code=3).stderr
    assert Dataset.exists("pets")
    run("rm", "pets", input="y\n")
    assert not Dataset.exists("pets")


def test_files_of_rows_are_added(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,x\n1,a\n2,b\n")
    (tmp_path / "b.jsonl").write_text('{"id": 2, "x": "B"}\n{"id": 3, "x": "c"}\n')
    first, second = str(tmp_path / "a.csv"), str(tmp_path / "b.jsonl")
    assert run("add", "rows", first, "-n").stderr == "would create rows: 2 rows, columns id, x\n"
    assert not Dataset.exists("rows")
    run("add", "rows", first, "--create", "-m", "First", "-d", "Letters")
    assert (Dataset("rows").list_versions()[0].message, Dataset("rows").description) == ("First", "Letters")
    assert "exists already" in run("add", "rows", first, "--create", code=1).stderr
    run("add", "rows", second, "--upsert", "id")
    assert Dataset("rows").to_arrow()["x"].to_pylist() == ["a", "B", "c"]
    run("add", "rows", second)
    assert Dataset("rows").count() == 5
    run("add", "rows", first, "--overwrite")
    assert Dataset("rows").count() == 2
    assert "does not exist" in run("add", "rows", str(tmp_path / "gone.csv"), code=1).stderr
    run("add", "rows", first, "--create", "--overwrite", code=2)


def test_folders_of_files_are_added_with_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "odd ü [1] folder"
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        image.new("RGB", (64, 48)).save(folder / label / "1.png")
    (folder / ".hidden").write_text("x")
    run("add", "photos", str(folder), "--label-from", "parent")
    assert Dataset("photos").column_types == {"file": "image"}
    assert document("sql", "SELECT label, file.width AS width FROM photos") == [
        {"label": "cat", "width": 64},
        {"label": "dog", "width": 64},
    ]
    assert lines("ls", "--no-header")[0][4] == "image"
    assert lines("schema", "photos", "--no-header")[0] == ["file", "image", "true"]
    monkeypatch.setattr(invocation, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    assert "Image('1.png', 64x48" in run("head", "photos").stdout


def test_damaged_datasets_do_not_hide_the_others(pets: Dataset, home: Path) -> None:
    Dataset.from_dict({"x": [1]}).save("broken")
    for file in home.glob("warehouse/default/broken-*/metadata/*.metadata.json"):
        file.write_text("{")
    listed = run("ls", "--no-header")
    assert [line.split("\t")[:2] for line in listed.stdout.splitlines()] == [["broken", ""], ["pets", "2"]]
    assert "broken' is damaged" in listed.stderr
    assert "is damaged" in run("head", "broken", code=1).stderr
    assert run("head", "broken", code=1).stderr.splitlines()[-1].startswith("next: lakefeed doctor")
    assert "is damaged" in run("rm", "broken", "--yes", code=1).stderr
    run("rm", "broken", "--yes", "--force")
    assert not Dataset.exists("broken")


def test_another_home(tmp_path: Path, pets: Dataset) -> None:
    assert document("ls", "--home", str(tmp_path / "other")) == []
    assert not (tmp_path / "other").exists()
    assert len(document("ls")) == 1  # type: ignore[arg-type]


def completions(line: str) -> list[str]:
    variables = {"_LAKEFEED_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    result = CliRunner().invoke(cli, [], env=variables, prog_name="lakefeed")
    return [each.partition(",")[2] for each in result.stdout.split()]


def test_names_versions_and_tags_are_completed(pets: Dataset) -> None:
    Dataset("pets").tag("stable", 1)
    assert completions("lakefeed lo") == ["log"]
    assert completions("lakefeed log p") == ["pets"]
    assert completions("lakefeed log pets@") == ["pets@stable", "pets@2", "pets@1"]
    assert completions("lakefeed log none@") == []
    assert completions("lakefeed rm p") == ["pets"]
    assert completions("lakefeed tree s") == ["show"]
    assert completions("lakefeed cache ") == ["ls", "rm", "pets"]
    assert completions("lakefeed table show p") == ["pets"]
    assert completions("lakefeed untag pets ") == ["stable"]
    assert "--json" in completions("lakefeed log --j")


def test_rows_are_exported_and_read_again(tmp_path: Path) -> None:
    table = pa.table(VALUES)
    Dataset.from_arrow(table).save("values")
    for name in ("a.parquet", "a.arrow", "a.jsonl", "a.jsonl.gz", "a.csv", "a.csv.zst"):
        path = tmp_path / "new folder" / name
        assert run("export", "values", str(path)).stderr == f"{path}: 2 rows\n"
        again = Dataset.from_file(path)
        assert again.count() == 2
        assert again.to_arrow()["text"].to_pylist() == table["text"].to_pylist()
    same = Dataset.from_file(tmp_path / "new folder" / "a.parquet").to_arrow()
    assert same.drop(["floats"]).to_pylist() == table.drop(["floats"]).to_pylist()
    run("export", "values", str(path), code=1)
    run("export", "values", str(path), "--force", "-c", "text", "-w", "flag")
    assert Dataset.from_file(path).to_arrow().to_pylist() == [{"text": "ü" * 500}]
    assert "choose from .parquet" in run("export", "values", str(tmp_path / "a.txt"), code=1).stderr
    Dataset.from_batches(lambda: iter([]), schema=table.schema).save("none")
    run("export", "none", str(tmp_path / "none.parquet"))
    assert Dataset.from_file(tmp_path / "none.parquet").count() == 0
    assert [path.name for path in tmp_path.rglob("*.part")] == []


def test_files_are_exported_verified_and_checked(tmp_path: Path, home: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.bin", "b.bin"):
        (tmp_path / "in" / name).write_bytes(name.encode() * 3)
    run("add", "files", str(tmp_path / "in"))
    out = tmp_path / "out"
    run("export", "files", str(out), "--files")
    stored = [json.loads(line)["file"] for line in (out / "rows.jsonl").read_text().splitlines()]
    assert [(out / path).read_bytes() for path in stored] == [b"a.bin" * 3, b"b.bin" * 3]
    assert "not an empty folder" in run("export", "files", str(out), "--files", code=1).stderr
    assert document("verify", "files", "--files") == []
    assert lines("check", "files", "--files", "--no-header")[1] == ["files", "true", ""]
    for pack in (path for path in home.glob("blobs/**/*") if path.is_file() and b"a.bin" in path.read_bytes()):
        content = pack.read_bytes()
        pack.chmod(0o600)
        pack.write_bytes(content.replace(b"a.bin", b"a.bim"))
    assert document("verify", "files") == []
    ((name, _),) = lines("verify", "files", "--files", "--no-header", code=10)
    assert name == "a.bin"
    assert lines("check", "files", "--files", "--no-header", code=10)[1][:2] == ["files", "false"]
    for file in home.glob("warehouse/default/files-*/data/*.parquet"):
        file.unlink()
    assert lines("verify", "files", "--no-header", code=10)[0][0] == "rows"


def test_conditions_on_rows_are_checked(pets: Dataset) -> None:
    passed = ["check", "pets", "--not-null", "id,label", "--unique", "id", "--min-rows", "1"]
    assert [line[1] for line in lines(*passed, "--no-header")] == ["true"] * 4
    failed = lines("check", "pets", "--min-rows", "2", "--no-header", code=10)[1]
    assert failed == ["row_count", "false", "1 rows added, at least 2 wanted"]
    assert "no column 'none'" in run("check", "pets", "--unique", "none", code=10).stdout


def test_garbage_is_shown_and_removed(pets: Dataset, home: Path) -> None:
    orphan = next(home.glob("warehouse/default/pets-*/data")) / "orphan.parquet"
    orphan.write_bytes(b"x" * 2048)
    os.utime(orphan, (0, 0))
    assert run("gc", "-n").stderr == "would remove 1 file, 2.0 KiB\n"
    assert "refused: nobody to ask. 1 file, 2.0 KiB" in run("gc", code=3).stderr
    report = document("gc", "--yes")
    assert isinstance(report, dict)
    assert (report["removed"], report["table_files"], orphan.exists()) == (True, 1, False)


def test_the_doctor_finds_problems(pets: Dataset, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED__CATALOG__URI", f"sqlite:///{home}/catalog.db")
    assert {line[0] for line in lines("doctor", "--no-header")} == {"ok"}
    monkeypatch.setenv("LAKEFEED__BLOBS__OPTIONS", '{"key": "secret"}')
    monkeypatch.setenv("LAKEFEED__OPENLINEAGE__API_KEY", "secret")
    assert "secret" not in run("config").stdout
    settings = {line[0]: line[1:] for line in lines("config", "--changed", "--no-header")}
    assert settings["home"] == [str(home), "$LAKEFEED_HOME"]
    assert settings["blobs.options"] == ["key", "$LAKEFEED__BLOBS__OPTIONS"]
    assert settings["catalog.uri"][1] == "$LAKEFEED__CATALOG__URI"
    (home / "lakefeed.toml").write_text("[read]\nthreads = 3\n")
    changed = {line[0]: line[1:] for line in lines("config", "--changed", "--no-header")}
    assert changed["read.threads"] == ["3", str(home / "lakefeed.toml").join("''")]
    for file in home.glob("warehouse/default/pets-*/metadata/*.metadata.json"):
        file.unlink()
    assert [line[1] for line in lines("doctor", "--no-header", code=10) if line[0] == "problem"] == ["dataset"]
    (home / "lakefeed.toml").write_text("[read]\nthread = 3\n")
    assert [line[1] for line in lines("doctor", "--no-header", code=10) if line[0] == "problem"] == ["settings"]


def test_a_version_is_mirrored(pets: Dataset) -> None:
    assert run("cache", "pets@1").stderr == "pets version 1 is on local disk: 2 rows\n"
    assert "_lakefeed_completion" in run("completion", "bash").stdout


def _raise(error: BaseException):  # type: ignore[no-untyped-def]
    def raising() -> None:
        raise error

    return raising


def test_an_interrupt_ends_a_query(pets: Dataset) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        long = "SELECT count(*) AS n FROM range(1000000) a, range(1000000) b, pets"
        assert run("sql", long, code=130).stderr == "\nlakefeed: interrupted\n"
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)


def test_errors_of_the_catalog_and_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "catalog.db").write_bytes(b"no database" * 100)
    monkeypatch.setenv("LAKEFEED__CATALOG__URI", f"sqlite:///{tmp_path}/catalog.db")
    message, hint = run("ls", code=1).stderr.splitlines()
    assert message.startswith("lakefeed: ")
    assert hint.startswith("next: lakefeed")
    monkeypatch.setenv("LAKEFEED__CATALOG__URL", "x")
    assert "Did you mean 'LAKEFEED__CATALOG__URI'" in run("ls", code=1).stderr
    assert run("ls", "--home", str(tmp_path / "catalog.db"), code=1).stdout == ""


COMMAND = [sys.executable, "-m", "lakefeed.cli"]
INTERRUPTED_IMPORT = """
import os, signal, sys
class Finder:
    def find_spec(self, name, *rest):
        if name == "click":
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Finder())
from lakefeed.cli.__main__ import main
main()
"""


@pytest.mark.live
def test_an_interrupt_during_the_imports_is_one_line() -> None:
    ended = subprocess.run([sys.executable, "-c", INTERRUPTED_IMPORT], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "lakefeed: interrupted\n")


def test_times_that_no_calendar_has() -> None:
    column = cell_text.Column("changed", "time")
    for moment in (10**18, -(10**18)):
        assert column.to_terminal(moment) == column.to_pipe(moment) == column.to_json(moment) == f"{moment} ms"


@pytest.mark.live
def test_help_terminals_and_pipes_of_a_real_process(pets: Dataset, home: Path) -> None:
    script = (
        "import json, sys; from lakefeed.cli.main import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: json.dump(sorted(sys.modules), sys.stderr)"
    )
    helped = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert [name for name, *_ in command_paths() if f"  {name} " not in helped.stdout] == []
    heavy = {"pyarrow", "pyiceberg", "sqlalchemy", "rich", "pydantic", "duckdb"}
    assert heavy & set(json.loads(helped.stderr)) == set()
    Dataset.from_dict({"x": list(range(200_000))}).save("many")
    controller, terminal = pty.openpty()
    on_terminal = subprocess.run(
        [*COMMAND, "-q", "head", "pets", "-c", "id"],
        stdout=terminal,
        env={**os.environ, "TERM": "xterm", "LAKEFEED_HOME": str(home)},
        check=True,
    )
    assert os.read(controller, 1000).decode().splitlines()[0] == "\x1b[1mid\x1b[0m"
    assert on_terminal.returncode == 0
    with subprocess.Popen(
        [*COMMAND, "head", "many", "-n", "200000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "x\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0


def test_near_misses_of_references(pets: Dataset) -> None:
    Dataset.from_dict({"x": [1]}).save("team.vision.digits")
    Dataset("pets").tag("stable", 1)
    for reference, code, message in (
        ("pets@stabel", 4, "Did you mean 'stable'?"),
        ("pets@latest", 4, "pets alone means the newest version"),
        ("pets@0", 2, "the first version is 1"),
        ("pets@2026-13-01", 2, "'2026-13-01' is not a time"),
        ("pets@2026-11-01T25:00", 2, "is not a time"),
        ("Pets", 1, "Did you mean 'pets'?"),
        ("digits", 4, "Did you mean 'team.vision.digits'?"),
    ):
        assert message in run("count", reference, code=code).stderr, reference
    assert run("count", "pets@V2").stdout == run("count", "pets@ 2").stdout == "3\n"
    assert "--table digits=team.vision.digits" in run("sql", "SELECT * FROM team.vision.digits", code=4).stderr
    for command in (("cp", "pets", "team.vision.digits"), ("mv", "pets", "team.vision.digits")):
        assert "exists" in run(*command, "--dry-run", code=1).stderr
    assert "the trash has no dataset 'pets'" in run("trash", "restore", "pets", "-n", code=4).stderr


def test_files_round_trip_and_globs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    maps = pa.array([[("k", [1])], [], None], pa.map_(pa.string(), pa.list_(pa.int64())))
    Dataset.from_arrow(pa.table({"m": maps, "t": ["a\tb", None, ""]})).save("maps")
    for suffix in ("parquet", "jsonl.lz4"):
        run("export", "maps", f"maps.{suffix}")
        run("add", f"from-{suffix[:5]}", f"maps.{suffix}")
    assert run("head", "from-parqu").stdout == run("head", "maps").stdout
    entries = document("head", "from-jsonl", "-c", "m")
    assert entries == [{"m": [{"key": "k", "value": [1]}]}, {"m": []}, {"m": None}]
    assert "no file matches '*.png'" in run("add", "none", "*.png", code=1).stderr
    for name in "ba":
        (tmp_path / f"{name}.txt").write_text(name)
    run("add", "texts", "*.txt")
    assert [row["file"]["filename"] for row in document("head", "texts")] == ["a.txt", "b.txt"]  # type: ignore[attr-defined]
    (tmp_path / "rows.csv").write_text("id\n1\n1\n")
    assert "no column 'x'" in run("add", "new", "rows.csv", "--upsert", "x", code=1).stderr
    assert "more than once: {'id': 1}" in run("add", "new", "rows.csv", "--upsert", "id", code=1).stderr
    assert not Dataset.exists("new")


@pytest.mark.live
def test_the_doctor_waits_for_seconds_and_shows_no_secrets(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "PATIENCE_SECONDS", 1.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # it accepts, and never answers
        port = silent.getsockname()[1]
        for variables, subject in (
            ({"CATALOG__URI": f"postgresql+psycopg2://me:hunter2@127.0.0.1:{port}/lake"}, "catalog"),
            ({"CATALOG__TYPE": "rest", "CATALOG__URI": f"http://me:hunter2@127.0.0.1:{port}/"}, "catalog"),
            (
                {
                    "BLOBS__URL": "s3://bucket/blobs",
                    "BLOBS__OPTIONS": json.dumps(
                        {"endpoint_url": f"http://127.0.0.1:{port}", "key": "a", "secret": "hunter2"}
                    ),
                },
                "blobs",
            ),
        ):
            with monkeypatch.context() as patch:
                if subject == "blobs":
                    (home.parent / "a.txt").write_text("a")
                    Dataset.from_dict({"f": [str(home.parent / "a.txt")]}).save("files", column_types={"f": "file"})
                for name, value in variables.items():
                    patch.setenv(f"LAKEFEED__{name}", value)
                start = time.monotonic()
                result = run("doctor", code=10)
                assert time.monotonic() - start < 20
                assert "hunter2" not in result.output
                assert "setting\t" in result.stdout
                problems = [line.split("\t") for line in result.stdout.splitlines() if line.startswith("problem")]
                assert [(each[1], "does not answer within 1 seconds" in each[2]) for each in problems] == [
                    (subject, True)
                ]
