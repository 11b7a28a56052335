"""Runs: their inputs, outputs and code, in the commits and in the registry."""

from __future__ import annotations

import contextvars
import functools
import json
import logging
import os
import sqlite3
import subprocess
import sys
import threading
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sqlalchemy import select

import lakefeed
from lakefeed import Dataset, Provenance, Run, track
from lakefeed.catalog import current_run, running_code
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import INPUTS
from lakefeed.catalog.version_uids import table_stem
from lakefeed.errors import DatasetNotFoundError, FileError, InvalidArgumentError, MissingFileError
from lakefeed.provenance import code_capture, current, run_recorder
from lakefeed.provenance.lake_facts import read_tables
from lakefeed.provenance.registry_facts import RegistryFacts, RunReader
from lakefeed.records.record_registry import Registry
from lakefeed.records.record_tables import FACT, RUN, TRANSFORM


def save(name: str, *values: int) -> Dataset:
    return Dataset.from_dict({"x": list(values)}).save(name, if_exists="append")


def registry() -> RegistryFacts:
    registry = Registry.open()
    reader, stems = RunReader(), {table_stem(uuid): uuid for uuid in read_tables(Lake.current())}
    with registry.read() as connection:
        reader.read_runs(connection, connection.scalars(select(RUN.c.uid)).all())
    return reader.facts(stems)


def inputs_of_commit(name: str) -> Any:
    snapshot = Lake.current().table(name).current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    return json.loads(snapshot.summary.additional_properties.get(INPUTS, "[]"))


def names(run: Run) -> list[tuple[str, int]]:
    return [(each.dataset, each.version) for each in run.inputs]


def test_a_run_has_what_it_reads_and_writes(home: Path) -> None:
    for value in range(3):
        save("photos", value)
    with track("clean", params={"lr": 0.1, "path": Path("a"), "bad": float("nan")}, transform=step) as run:
        assert current() is run
        Dataset("photos").filter("x > 0").count()
        assert Dataset("photos").to_arrow().num_rows == 3
        for _ in range(2):
            Dataset("photos", version=1).filter("x >= 0").to_arrow()
        out = Dataset("photos").with_column("y", "x * 2").save("clean")
        list(Dataset("clean").added_since(None).rows())
        mine = Dataset("clean").append_to("clean", provenance=Provenance(run="mine", code="c1"))
    assert current() is None
    read = [(each.dataset, each.version, each.since) for each in run.inputs]
    assert read == [("photos", 3, None), ("photos", 1, None), ("clean", 1, None)]
    first, second = reversed(mine.list_versions())
    assert (first.run, first.code, second.run, second.code) == (run.id, run.code, "mine", "c1")
    assert first.code is not None
    assert "sha256:" in first.code
    commit = inputs_of_commit("clean")
    assert [(each["dataset"], each["version"]) for each in commit][:2] == [("photos", 3), ("photos", 1)]
    assert out.count() == 3
    stored = registry()
    record = stored.runs[run.id]
    assert (record.name, record.status, record.user) == ("clean", "completed", first.user)
    assert record.params == {"lr": 0.1, "path": "a", "bad": "NaN"}
    assert record.finished is not None
    assert [(each.version, each.since) for each in stored.inputs[run.id]] == [(3, None), (1, None), (1, None)]
    save("photos", 9)
    assert Dataset("photos").list_versions()[0].run is None
    assert inputs_of_commit("photos") == []


def test_an_input_has_the_plan_seed_and_epoch_of_its_loader(home: Path) -> None:
    save("photos", *range(8))
    with track() as run:
        loader = Dataset("photos").filter("x >= 0").shuffle(seed=7).to_torch(batch_size=4)
        for _ in range(2):
            list(loader)
        state = loader.state_dict()
        Dataset("photos").to_arrow()  # says less
    (read,) = run.inputs
    assert (read.plan, read.seed, read.epoch) == (state["fingerprint"], 7, 1)
    (stored,) = registry().inputs[run.id]
    assert (stored.plan, stored.seed, stored.epoch) == (read.plan, 7, 1)
    with track() as other:
        list(Dataset("photos").shuffle(seed=3).batches())
        mapped = Dataset("photos").mapped()
        assert mapped[0] == {"x": 0}
        Dataset("photos").cache().to_arrow()
    (read,) = other.inputs
    assert (read.seed, read.epoch) == (3, None)


def test_runs_nest_and_a_plain_one_replaces_another(home: Path) -> None:
    save("a", 1)
    with track("outer") as outer:
        with track("inner") as inner:
            Dataset("a").to_arrow()
            assert current() is inner
        assert current() is outer
        plain = track("left open")
        Dataset("a").to_arrow()
        assert current() is plain
    assert (names(outer), names(inner), names(plain)) == ([], [("a", 1)], [("a", 1)])
    assert [each.status for each in (outer, inner, plain)] == ["completed"] * 3
    assert current() is None
    runs = registry().runs
    assert (runs[inner.id].parent, runs[plain.id].parent, runs[outer.id].parent) == (outer.id, outer.id, None)

    first, second = track("cell"), track("cell")  # the cell of a notebook runs twice
    written = save("b", 1).list_versions()[0]
    assert (first.status, second.status, written.run) == ("completed", "running", second.id)
    with track("within") as within:
        assert current() is within
    assert current() is second
    second.finish("aborted")
    second.finish()
    assert (second.status, current(), registry().runs[second.id].status) == ("aborted", None, "aborted")
    assert registry().runs[second.id].parent is None

    for raised, status in (
        (ValueError("no"), "failed"),
        (KeyboardInterrupt(), "aborted"),
        (SystemExit(0), "completed"),
    ):
        with pytest.raises(type(raised)), track() as run:
            raise raised
        assert run.status == status
    same = track(run_id=run.id)
    save("b", 2)
    same.finish()
    assert Dataset("b").list_versions()[0].run == run.id


def test_threads_have_the_run_of_the_main_thread_or_their_own(home: Path) -> None:
    save("a", 1)
    save("b", 1)
    seen: dict[str, Any] = {}
    both = threading.Barrier(2)

    def own(name: str) -> None:
        with track(name) as run:
            both.wait(60)
            Dataset(name).to_arrow()
            seen[name] = names(run), Dataset.from_dict({"x": [1]}).save(f"of-{name}").list_versions()[0].run == run.id
            both.wait(60)

    with track("main") as main:
        threads = [threading.Thread(target=own, args=(name,)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: Dataset("a").to_arrow()).result()
            pool.submit(contextvars.copy_context().run, lambda: Dataset("b").to_arrow()).result()
    assert seen == {"a": ([("a", 1)], True), "b": ([("b", 1)], True)}
    assert names(main) == [("a", 1), ("b", 1)]
    assert current_run.current_state() is None


def test_a_commit_names_a_hundred_inputs_and_counts_the_others(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current_run, "MAX_INPUTS", 2)
    for value in range(4):
        save("a", value)
    with track():
        for number in (1, 2, 3, 4):
            Dataset("a", version=number).to_arrow()
        save("b", 1)
    commit = inputs_of_commit("b")
    assert ([each.get("version") for each in commit], commit[-1]) == ([1, 2, None], {"more": 2})
    reads, more = current_run.parse_inputs(json.dumps(commit), 5)
    assert ([(each.version, each.at) for each in reads], more) == ([(1, 5), (2, 5)], 2)
    for other in ("", None, "[1]", "nothing", '{"a": 1}', '[{"dataset": 7}, 3, {"version": 1}, {"more": "x"}]'):
        assert current_run.parse_inputs(other, 0) == ((), 0)


def step(factor: int) -> int:
    """The code of a run."""
    return factor * 2


def test_the_code_of_a_run_is_stored_once(home: Path) -> None:
    save("a", 1)
    for _ in range(2):
        with track(transform=functools.partial(step, 3)) as run:
            pass
    assert (run.name, run.code and run.code.split(" ")[0]) == (f"{__name__}.step", f"{__name__}.step")
    lake = Lake.current()
    with Registry.open(lake).read() as connection:
        (fact,) = connection.execute(FACT.select()).all()
        (transform,) = connection.execute(TRANSFORM.select()).all()
        facts = json.loads(connection.execute(RUN.select()).all()[0].facts_json)
    assert lake.blobs.read(fact.sha256).startswith(b"def step(factor: int)")
    assert (transform.code_sha256, transform.kind) == (fact.sha256, "function")
    assert facts["packages"]["pyarrow"] == __import__("pyarrow").__version__
    assert facts["python"] == ".".join(map(str, sys.version_info[:3]))
    assert code_capture.capture_code("named").name == "named"
    assert code_capture.capture_code(len).source is None
    given = ["train.py", "--token", "abc", "--api-key=abc", "s3://me:word@host/a", "--lr", "3"]
    assert code_capture.arguments(given) == [
        "train.py",
        "--token",
        "***",
        "--api-key=***",
        "s3://***@host/a",
        "--lr",
        "3",
    ]


def test_the_commit_of_a_repository(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.com", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert running_code.git_commit(tmp_path) is None
    git("init", "-q")
    assert (running_code.git_commit(tmp_path), code_capture.git_state(tmp_path)) == (None, (None, False))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "train.py").write_text("pass")
    git("add", ".")
    git("commit", "-qm", "one")
    head = git("rev-parse", "HEAD")
    assert running_code.git_commit(tmp_path / "sub") == head
    assert code_capture.git_state(tmp_path / "sub") == (head, False)
    git("pack-refs", "--all")
    (tmp_path / "sub" / "train.py").write_text("pass # changed")
    assert (running_code.git_commit(tmp_path), code_capture.git_state(tmp_path)) == (head, (head, True))
    git("checkout", "-q", "--detach")
    assert running_code.git_commit(tmp_path) == head
    git("worktree", "add", "-q", str(tmp_path / "tree"), "-b", "other")
    assert running_code.git_commit(tmp_path / "tree") == head


class Shell:
    """What IPython has in a notebook."""

    user_ns: ClassVar[dict[str, Any]] = {"In": ["", "import lakefeed", "lakefeed.track()"]}


def test_the_cells_of_a_notebook_are_its_code(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_code, "_shell", Shell)
    monkeypatch.setenv("JPY_SESSION_NAME", str(home / "study.ipynb"))
    with track() as run:
        first = save("a", 1).list_versions()[0].code
        Shell.user_ns["In"].append("x = 1")
        second = save("a", 2).list_versions()[0].code
    assert first is not None
    assert first.startswith("study.ipynb sha256:")
    assert (first != second, run.name, run.code) == (True, "study.ipynb", second)


def test_a_program_without_a_script_has_no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    running_code._script.cache_clear()
    assert running_code.code_outside_runs() is None, "pytest is installed"
    main = type(sys)("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "argv", ["-c", "x"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-c", "import lakefeed", "x"])
    running_code._script.cache_clear()
    assert (running_code.running_code().name, running_code.running_code().source) == ("python -c", b"import lakefeed")
    running_code._script.cache_clear()
    monkeypatch.setattr(sys, "argv", [""])
    assert (running_code.running_code().kind, running_code.code_outside_runs()) == ("interactive", None)
    running_code._script.cache_clear()
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert running_code.running_code().kind == "program"
    running_code._script.cache_clear()


def test_a_logged_file_is_stored_and_kept(home: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.pt"
    model.write_bytes(b"weights")
    with track("training") as run:
        first, again = run.log_file(model), run.log_file(str(model))
        other = run.log_file(model, "models/best.pt")
        with pytest.raises(MissingFileError, match="no file at path"):
            run.log_file(tmp_path / "none")
        with pytest.raises(OSError, match="folder"):
            run.log_file(tmp_path)
        os.mkfifo(tmp_path / "pipe")
        for path, message in ((tmp_path / "pipe", "no regular file"), ("x" * 300, "name too long")):
            with pytest.raises(FileError, match=f"(?i){message}"):
                run.log_file(path)
        with pytest.raises(DatasetNotFoundError):
            lakefeed.lineage("x" * 300)
    assert (first.uid, first.name, first.size, first.run) == (again.uid, "model.pt", 7, run.id)
    assert (other.name, other.sha256, other.uid != first.uid) == ("best.pt", first.sha256, True)
    assert first.read() == b"weights"


def test_bad_arguments_are_refused(home: Path) -> None:
    circle: dict[str, Any] = {}
    circle["self"] = circle
    for arguments in (
        {"name": 7},
        {"params": circle},
        {"params": {"a": {(1, 2): 3}}},
        {"params": [1]},
        {"params": {1: 2}},
        {"run_id": ""},
        {"run_id": "a\n"},
        {"transform": 7},
    ):
        with pytest.raises(InvalidArgumentError):
            track(**arguments)  # type: ignore[arg-type]
    assert current() is None
    with track(params=Namespace(lr=1)) as run, pytest.raises(InvalidArgumentError):
        run.finish("done")  # type: ignore[arg-type]
    assert run.params == {"lr": 1}
    with pytest.raises(TypeError, match=run.id):
        run.__reduce__()


def test_a_database_that_is_away_fails_neither_a_read_nor_a_commit(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save("a", 1)
    monkeypatch.setattr(run_recorder, "END_SECONDS", 0.3)
    locked = tmp_path / "registry.db"
    holder = sqlite3.connect(locked, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    away = (f"sqlite:///{locked}", "postgresql+psycopg2://me@127.0.0.1:9/none", f"sqlite:///{home}/catalog.db/none.db")
    for number, uri in enumerate(away):
        monkeypatch.setenv("LAKEFEED__REGISTRY__URI", uri)
        monkeypatch.setenv("LAKEFEED__CATALOG__PATIENCE", "0.2")
        caplog.clear()
        with caplog.at_level(logging.WARNING, "lakefeed"), track(f"run {number}") as run:
            Dataset("a").to_arrow()
            written = Dataset("a").save(f"b{number}")
            Dataset("a").to_arrow()
        (warning,) = [each for each in caplog.records if "not recorded" in each.message]
        assert f"run {number}" in warning.message
        assert (written.list_versions()[0].run, names(run)) == (run.id, [("a", 1)])
        assert [each["version"] for each in inputs_of_commit(f"b{number}")] == [1]
        if number:  # a query waits for the lock for a minute
            assert [node.kind for node in lakefeed.lineage(f"b{number}", down=0).nodes][:2] == ["version", "run"]
    with track() as run, pytest.raises(OSError, match=r"none\.db"):
        run.log_file(tmp_path / "registry.db")
    holder.close()
