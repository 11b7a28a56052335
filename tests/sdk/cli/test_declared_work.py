"""The commands of routines and ingestions, which Python files declare."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lakefeed import Dataset
from lakefeed.cli.declared_work import load_work
from lakefeed.cli.main import cli
from lakefeed.errors import InvalidArgumentError

WORK = """
import pyarrow as pa
from lakefeed.ingest import FolderSource
from lakefeed.routines import Manual, routine

inbox = FolderSource("inbox", "letters", {folder!r}, "*.csv")
again = inbox
resources = {{"greeting": "hello"}}


@routine(on="capitals", into=None, resources=("greeting",))
def announce(rows, run):
    print(run.resources["greeting"], rows.count())


@routine(on="letters", into="capitals", on_error="quarantine")
def capitals(rows):
    def upper(row):
        if row["x"] == {bad!r}:
            raise ValueError("a bad letter")
        return {{"id": row["id"], "X": row["x"].upper()}}

    return rows.map(upper, schema=pa.schema([("id", pa.int64()), ("X", pa.string())]))


@routine(on="letters", into="checked", only_checked=True, when=Manual())
def checked(rows):
    return rows
"""


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, list(arguments))
    assert result.exit_code == code, result.output
    return result


def lines(*arguments: str, code: int = 0) -> list[list[str]]:
    return [line.split("\t") for line in run(*arguments, "--no-header", code=code).stdout.splitlines()]


@pytest.mark.live
def test_files_are_ingested_and_processed_once(tmp_path: Path) -> None:
    file, landing = tmp_path / "work.py", tmp_path / "landing"
    landing.mkdir()
    (landing / "a.csv").write_text("id,x\n1,a\n2,b\n3,c\n")
    os.utime(landing / "a.csv", (0, 0))
    file.write_text(WORK.format(folder=str(landing), bad="b"))
    f = ("-f", str(file))
    assert lines("ingest", "ls", *f) == [
        ["inbox", "letters", "FolderSource", "1 new, such as a.csv", "0", "0", "0", "0"]
    ]
    assert "would append to letters: 1 new" in run("ingest", "run", *f, "-n").stderr
    assert not Dataset.exists("letters")
    assert lines("ingest", "run", "inbox", *f) == [["inbox", "1", "3", "letters", "1", "0", "0"]]
    assert (lines("ingest", "run", *f), run("ingest", "run", *f).stderr) == ([], "nothing new\n")
    chosen = ("capitals", "announce", *f)
    assert [line[:4] for line in lines("routine", "pending", "capitals", *f, "--exit-code", code=10)] == [
        ["capitals", "letters", "1", "3"]
    ]
    assert "would run capitals: 3 rows of letters up to v1" in run("routine", "run", *chosen, "-n").stderr
    ran = run("routine", "run", *reversed(chosen[:2]), *f, "--json")
    facts = [(each["routine"], each["rows_in"], each["rows_out"], each["failed"]) for each in json.loads(ran.stdout)]
    assert facts == [("capitals", 3, 2, 1), ("announce", 2, 1, 0)]
    assert "hello 2\n" in ran.stderr
    assert lines("routine", "run", *chosen) == []
    assert run("routine", "pending", "capitals", *f, "--exit-code").stderr == "nothing is pending\n"
    listed = {each["routine"]: each for each in json.loads(run("routine", "ls", *f, "--json").stdout)}
    assert (listed["capitals"]["read"], listed["capitals"]["failed"], listed["announce"]["due"]) == (1, 1, False)
    assert listed["checked"]["pending"] == 1
    assert "--unchecked" in run("routine", "run", *f, code=1).stderr
    run("routine", "run", "checked", *f, "--unchecked")
    assert Dataset("checked").count() == 3
    assert [line[3:7] for line in lines("routine", "retry", "capitals", *f, "-n")] == [
        ["2", "", "ValueError", "a bad letter"]
    ]
    run("routine", "retry", "capitals", *f, code=10)
    file.write_text(WORK.format(folder=str(landing), bad="none"))
    mended = tmp_path / "mended.py"
    mended.write_text(file.read_text())
    assert lines("routine", "retry", "capitals", "-f", str(mended))[0] == ["succeeded", "1"]
    assert run("routine", "retry", "capitals", *f).stderr == "no failed rows\n"
    assert sorted(Dataset("capitals").to_arrow()["X"].to_pylist()) == ["A", "B", "C"]


def test_versions_and_rows_are_skipped_and_failed_rows_dropped(tmp_path: Path) -> None:
    file = tmp_path / "odd ü name.py"
    file.write_text(WORK.format(folder=str(tmp_path), bad="b"))
    f = ("capitals", "-f", str(file))
    Dataset.from_dict({"id": [1, 2], "x": ["a", "b"]}).save("letters")
    run("routine", "run", *f)
    refused = run("routine", "retry", *f, "--drop", "-m", "was bad", code=3).stderr
    assert "capitals: 1 failed row: was bad" in refused
    run("routine", "retry", *f, "--drop", code=2)
    assert "dropped 1 failed row" in run("routine", "retry", *f, "--drop", "-m", "was bad", "--yes").stderr
    for _ in range(3):
        Dataset.from_dict({"id": [3, 4], "x": ["c", "d"]}).append_to("letters")
    skip = ("routine", "skip", "capitals")
    assert "the next version that it reads is v2" in run(*skip, "3", *f[1:], "-m", "no", "-y", code=1).stderr
    assert "would record that" in run(*skip, "2", *f[1:], "-m", "no", "-n").stderr
    run(*skip, "2", *f[1:], "-m", "no", code=3)
    run(*skip, "2", *f[1:], "-m", "no", "--yes")
    run(*skip, "3", *f[1:], "-m", "no", "--yes", "--keys", "4")
    run(*skip, "4", *f[1:], "-m", "no", "--yes", "--rows", "0:1")
    run(*skip, "4", *f[1:], "-m", "no", "--yes", "--rows", "1", code=2)
    assert [line[1:4] for line in lines("routine", "run", *f)] == [["3", "1", "1"], ["3", "0", "0"], ["4", "1", "1"]]
    assert Dataset("capitals").to_arrow()["X"].to_pylist() == ["A", "C", "D"]


def test_files_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("x = 1\nraise ValueError('oh')\n")
    (tmp_path / "ends.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "nothing.py").write_text("print('loud')\n")
    (tmp_path / "json.py").write_text("from lakefeed.ingest import FolderSource\na = FolderSource('a', 'x', '/none')\n")
    error = run("routine", "ls", "-f", "broken.py", code=1).stderr
    assert "ValueError: oh, line 2 of" in error
    assert "SystemExit" in run("routine", "ls", "-f", "ends.py", code=1).stderr
    silent = run("routine", "ls", "-f", "nothing.py", "--json", code=1)
    assert (silent.stdout, "no routine is declared" in silent.stderr) == ("", True)
    assert "does not exist" in run("ingest", "ls", "-f", "gone.py", code=1).stderr
    assert "No module named 'no_such'" in run("ingest", "ls", "-f", "no_such.module", code=1).stderr
    assert "The ingestions are 'a'." in run("ingest", "run", "b", "-f", "json.py", code=2).stderr
    (tmp_path / "twice.py").write_text((tmp_path / "json.py").read_text() + "b = FolderSource('a', 'y', '/none')\n")
    with pytest.raises(InvalidArgumentError, match="'a' is declared several times"):
        load_work(["twice.py"])
    package = tmp_path / "team" / "defs"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "common.py").write_text("into = 'x'\n")
    (package / "photos.py").write_text(
        "from lakefeed.ingest import FolderSource\nfrom . import common\np = FolderSource('p', common.into, '/none')\n"
    )
    assert [each.name for each in load_work([str(package)]).ingestions] == ["p"]
    assert [each.name for each in load_work(["team.defs.photos"]).ingestions] == ["p"]


def completions(shell: str, line: str) -> str:
    words, last = line.split(" "), line.rpartition(" ")[2]
    position = last if shell == "fish" else str(len(words) - 1)
    variables = {"_LAKEFEED_COMPLETE": f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": position}
    result = CliRunner().invoke(cli, [], env=variables, prog_name="lakefeed")
    assert result.stderr == ""
    return result.stdout


def test_names_of_declarations_are_completed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "work.py"
    file.write_text("import os\nprint('noise')\nos.write(2, b'noise')\n" + WORK.format(folder=str(tmp_path), bad="b"))
    run_line = f"lakefeed routine run -f {file} "
    for shell, form in (("bash", "plain,{}"), ("zsh", "plain\n{}\n_"), ("fish", "plain,{}")):
        assert completions(shell, run_line).split() == [
            word for name in ("announce", "capitals", "checked") for word in form.format(name).split()
        ]
    assert completions("bash", run_line + "capitals ch") == "plain,checked\n"
    assert completions("bash", f"lakefeed routine skip -f {file} ca") == "plain,capitals\n"
    assert completions("bash", f"lakefeed ingest run -f {file} ") == "plain,inbox\n"
    assert completions("bash", "lakefeed routine run ").split() == []
    assert completions("bash", "lakefeed routine run -f work").startswith("file,")
    for number, text in enumerate(("1/0", "import sys; sys.exit('no')", "raise KeyboardInterrupt", "def", "\0")):
        (tmp_path / f"broken{number}.py").write_text(text)  # of another name, as this process has loaded the first file
        assert completions("bash", f"lakefeed routine run -f {tmp_path}/broken{number}.py ").split() == []
    assert completions("bash", f"lakefeed routine run -f {tmp_path}/none.py ").split() == []
    assert capfd.readouterr() == ("", "")
