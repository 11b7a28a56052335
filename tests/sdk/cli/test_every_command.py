"""What holds for every command: JSON, dry runs, the need of a yes, and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lakefeed import Dataset
from lakefeed.cli import exit_codes
from lakefeed.cli.command_groups import command_paths, load_command
from lakefeed.cli.main import cli

WORK = """
from lakefeed.ingest import FolderSource
from lakefeed.routines import routine

print("noise")

@routine(on="seed", into="labels")
def labels(rows):
    print("noise")
    return rows

inbox = FolderSource("inbox", into="landed", folder="inbox", pattern="*.csv", settle=0)
"""

ARGUMENTS: dict[str, str | None] = {
    "index create": "words keyed --text x",
    "index search": "words a",
    "ingest run": "-f work.py",
    "routine run": "-f work.py --up-to 1",
    "tree add": "team.tree more.csv",
    "add": "seed rows.csv",
    "added": "seed",
    "cache": "seed@2",
    "cache ls": "",
    "cache rm": "seed",
    "check": "seed",
    "completion": "fish",
    "config": "--sources",
    "count": "seed",
    "cp": "seed copied",
    "diff": "seed@1 seed@2 --keys id --rows 5",
    "doctor": "",
    "export": "seed out.csv",
    "gc": "",
    "head": "seed",
    "index ls": "",
    "index refresh": "",
    "index rm": "words",
    "ingest ls": "-f work.py",
    "lineage": "seed --mermaid",
    "log": "seed",
    "ls": "",
    "mv": "second moved",
    "profile": "seed",
    "restore": "seed@1",
    "rm": "third",
    "routine ls": "-f work.py",
    "routine pending": "-f work.py",
    "routine retry": "labels -f work.py",
    "routine skip": "labels 2 -f work.py -m because",
    "schema": "seed",
    "show": "seed",
    "sql": "SELECT\tcount(*)\tAS\tn\tFROM\tseed",
    "table compact": "keyed",
    "table delete": "keyed 1",
    "table ls": "",
    "table show": "keyed",
    "table upsert": "keyed more.csv",
    "tag": "seed@1 new",
    "trash": "empty",
    "tree diff": "team.tree@1.0.0 team.tree",
    "tree get": "team.tree",
    "tree ls": "",
    "tree show": "team.tree",
    "ui": None,  # it runs until it is interrupted
    "untag": "seed first",
    "verify": "seed",
}
"""The arguments of each command, in the order in which they run."""
NEED_A_YES = {"cache rm", "index rm", "rm", "routine skip", "table delete", "trash"}
WITHOUT_NOT_FOUND = {"add", "cache rm", "diff", "table upsert", "tree add"}
"""Commands that need no dataset of the name, or say first that the command line is wrong."""


def test_every_command_is_among_those_that_are_run() -> None:
    assert {" ".join(path) for path in command_paths()} == set(ARGUMENTS)


@pytest.fixture
def folder(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Saves datasets of every kind, and goes to a folder with files."""
    folder = tmp_path / "folder"
    (folder / "inbox").mkdir(parents=True)
    monkeypatch.chdir(folder)
    for name, value in (("COLUMNS", "40"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
    (folder / "rows.csv").write_text("id,x\n1,a\n2,b\n")
    (folder / "more.csv").write_text("id,x\n3,c\n")
    (folder / "inbox" / "first.csv").write_text("id,x\n1,a\n")
    (folder / "work.py").write_text(WORK)
    for name in ("seed", "second", "third", "fourth"):
        Dataset.from_file("rows.csv").save(name)
    Dataset.from_file("more.csv").append_to("seed")
    Dataset("seed").tag("first", 1)
    Dataset("fourth").delete()
    invoke("table", "upsert", "keyed", "rows.csv", "--key", "id")
    invoke("tree", "add", "team.tree", "rows.csv")
    invoke("cache", "seed@1")
    return folder


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def lake_bytes(folder: Path, home: Path) -> dict[Path, bytes]:
    files = [path for root in (folder, home) for path in root.rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in files if not {"cache", "__pycache__"} & set(path.parts)}


@pytest.mark.live
def test_json_is_one_document_and_dry_runs_change_nothing(folder: Path, home: Path) -> None:
    for name, text in ARGUMENTS.items():
        if text is None:
            continue
        path = tuple(name.split())
        arguments = [*path, *(text.split(" ") if text else [])]
        options = {option for parameter in load_command(path).params for option in parameter.opts}
        before = lake_bytes(folder, home)
        if "--dry-run" in options:
            result = invoke(*arguments, "--dry-run", "--json")
            assert (result.exit_code, lake_bytes(folder, home) == before) == (0, True), (name, result.output)
            json.loads(result.stdout)
        if "--yes" in options:
            refused = invoke(*arguments)
            expected = exit_codes.REFUSED if name in NEED_A_YES else exit_codes.DONE
            assert (refused.exit_code, lake_bytes(folder, home) == before) == (expected, True), (name, refused.output)
            assert (f"next: lakefeed {' '.join(path)}" in refused.stderr) == (name in NEED_A_YES)
            arguments.append("--yes")
        result = invoke(*arguments, "--json", "--quiet")
        assert result.exit_code == 0, (name, result.output)
        json.loads(result.stdout)
        assert result.stdout.count("\n") > 0, name
        assert result.stderr.replace("noise\n", "") == "", name


@pytest.mark.live
def test_exit_codes_of_every_command(folder: Path) -> None:
    for name, text in ARGUMENTS.items():
        path = name.split()
        assert invoke(*path, "--nonsense").exit_code == exit_codes.USAGE, name
        assert invoke(*path, "--help").exit_code == exit_codes.DONE, name
        words = (text or "").split()
        for known in ("seed", "keyed", "team.tree", "third", "second"):
            if words and words[0].partition("@")[0] == known and name not in WITHOUT_NOT_FOUND:
                other = invoke(*path, words[0].replace(known, known + "x"), *words[1:])
                assert (other.exit_code, other.stdout) == (exit_codes.NOT_FOUND, ""), (name, other.output)
                assert f"Did you mean '{known}'" in other.stderr or known == "team.tree", (name, other.stderr)
    for arguments, code in (
        ("diff seed@1 seed@2 --exit-code", 10),
        ("diff seed@2 seed@2 --exit-code", 0),
        ("check seed --min-rows 7", 10),
        ("routine pending -f work.py --exit-code", 10),
        ("tree diff team.tree@1.0.0 team.tree@1.0.0 --exit-code", 0),
        ("head seed@9", 4),
        ("head seed@none", 4),
        ("head seed@2000-01-01", 4),
        ("head seed@", 2),
        ("head seed -n x", 2),
        ("index search nothing a", 4),
        ("tree show nothing", 4),
        ("trash restore nothing", 4),
        ("routine run nothing -f work.py", 2),
        ("cache rm nothing -y", 0),
    ):
        assert invoke(*arguments.split()).exit_code == code, arguments
    for file in folder.parent.rglob("seed-*/data/*.parquet"):
        file.write_bytes(b"damaged")
    assert invoke("verify", "seed").exit_code == exit_codes.ANSWER_IS_NO
