"""The commands of file trees."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from lakefeed import Dataset, FileTree
from lakefeed.cli.main import cli


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, list(arguments))
    assert result.exit_code == code, result.output
    return result


def lines(*arguments: str, code: int = 0) -> list[list[str]]:
    return [line.split("\t") for line in run(*arguments, "--no-header", code=code).stdout.splitlines()]


def test_trees_are_added_compared_and_copied(home: Path, tmp_path: Path) -> None:
    assert run("tree", "ls").stderr == "no file trees\n"
    assert not home.exists()
    folder = tmp_path / "odd ü"
    (folder / "cats").mkdir(parents=True)
    (folder / "cats" / "1.txt").write_text("a cat")
    (folder / "readme.txt").write_text("first")
    assert (
        run("tree", "add", "animals.zoo", str(folder), "-n").stderr == "would change animals.zoo: 2 files: +2 -0 ~0\n"
    )
    assert lines("tree", "ls") == []
    run("tree", "add", "animals.zoo", str(folder), "--label", "first", "--tag", "raw", "-d", "The zoo")
    assert "nothing differs" in run("tree", "add", "animals.zoo", str(folder)).stderr
    (folder / "cats" / "1.txt").rename(folder / "cats" / "tom.txt")
    (folder / "readme.txt").write_text("second")
    (folder / "new.txt").write_text("new")
    assert run("tree", "add", "animals.zoo", str(folder), "--sync").stderr.startswith(
        "animals.zoo is now 1.0.0, 3 files"
    )
    changed = [["+", "new.txt", ""], ["~", "readme.txt", ""], [">", "cats/tom.txt", "cats/1.txt"]]
    assert lines("tree", "diff", "animals.zoo") == changed
    assert lines("tree", "diff", "animals.zoo@first", "--exit-code", code=10) == changed
    assert lines("tree", "diff", "animals.zoo@1", "animals.zoo@first", "--exit-code") == []
    assert [line[:4] for line in lines("tree", "ls", "animals.*")] == [["animals.zoo", "1.0.0", "completed", "3"]]
    assert [line[1] for line in lines("tree", "ls", "--all")] == ["1.0.0", "first"]
    assert [(line[0], line[-1]) for line in lines("log", "animals.zoo")] == [("2", "1.0.0"), ("1", "first")]
    assert lines("ls")[0][-1] == "1.0.0"
    assert "label\tfirst\n" in run("show", "animals.zoo@first").stdout
    shown = json.loads(run("tree", "show", "animals.zoo@first", "--json").stdout)
    assert (shown["files"], shown["bytes"], shown["tags"], shown["description"]) == (2, 10, ["raw"], "The zoo")
    assert [line[0] for line in lines("tree", "show", "animals.zoo", "--files", "cats/*")] == ["cats/tom.txt"]
    out = tmp_path / "out"
    assert run("tree", "get", "animals.zoo@first", str(out)).stdout == f"{out}\n"
    assert (out / "readme.txt").read_text() == "first"
    assert "--force" in run("tree", "get", "animals.zoo", str(out), code=1).stderr
    run("tree", "get", "animals.zoo", str(out), "--force", "--files", "cats")
    assert [path.name for path in out.rglob("*.txt")] == ["tom.txt"]
    assert (Path(run("tree", "get", "animals.zoo").stdout.strip()) / "new.txt").read_text() == "new"


def test_drafts_and_wrong_names_of_trees(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    draft = FileTree.create("zoo", "animals")
    draft.add_files(tmp_path / "a.txt")
    draft.upload()
    assert lines("tree", "ls")[0][1:4] == ["", "in_progress", "1"]
    assert f"id\t{draft.id}\n" in run("tree", "show", "animals.zoo").stdout
    assert f"id\t{draft.id}\n" in run("tree", "show", draft.id).stdout
    draft.finalize()
    Dataset.from_dict({"x": [1]}).save("rows")
    assert "not the files of a tree" in run("tree", "show", "rows", code=1).stderr
    assert "Did you mean 'animals.zoo'?" in run("tree", "get", "animal.zoo", code=4).stderr
    assert "no tag '9.9.9'" in run("tree", "show", "animals.zoo@9.9.9", code=4).stderr
    assert "Did you mean 'show'?" in run("tree", "shw", code=2).stderr
    assert "belong together" in run("tree", "get", "animals.zoo", "--part", "0", code=2).stderr
    assert "no such file" in run("tree", "add", "animals.zoo", str(tmp_path / "gone"), code=1).stderr
    assert FileTree.list_datasets(only_completed=False)[0]["status"] == "completed"
    assert [each["id"] for each in FileTree.list_datasets(only_completed=False)] == [draft.id]
