"""File trees beside DVC and restic: each step is processes of a command, and the contestants take turns.

CPU seconds are those of the processes with their start, the best of the rounds. Each round has new files and stores.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

FILE_BYTES = 20_000
RACY_SECONDS = 2.1

LAKEFEED_COMMIT = """
import sys
from lakefeed.trees import FileTree
folder, name = sys.argv[1:]
parents = FileTree.list_datasets("peers", name)[:1]
tree = FileTree.create(name, "peers", [each["id"] for each in parents])
tree.sync_folder(folder)
tree.upload(show_progress=False)
tree.finalize()
"""
LAKEFEED_START = """
from lakefeed.trees import FileTree
FileTree.list_datasets("peers")
"""
LAKEFEED_COPY = """
import sys
from lakefeed.trees import FileTree
name, target = sys.argv[1:]
FileTree.get(dataset_project="peers", dataset_name=name).get_mutable_local_copy(target)
"""


class Contestant(Protocol):
    """A program that stores versions of folders."""

    name: str

    @property
    def store(self) -> Path:
        """The folder in which it stores contents."""
        ...

    def prepare(self) -> None:
        """Makes an empty store."""
        ...

    def start(self) -> None:
        """Looks at the versions."""
        ...

    def commit(self, folder: Path) -> None:
        """Stores a folder as the next version."""
        ...

    def copy(self, folder: Path, target: Path) -> None:
        """Writes the newest version of a folder into a new folder."""
        ...


@dataclass
class Lakefeed:
    """A file tree for each folder."""

    home: Path
    program: str = sys.executable
    name: str = "lakefeed"

    @property
    def store(self) -> Path:
        return self.home / "lakefeed"

    def prepare(self) -> None:
        self.store.mkdir()
        self.start()  # the bytecode of the modules is written

    def start(self) -> None:
        self._run(LAKEFEED_START)

    def commit(self, folder: Path) -> None:
        self._run(LAKEFEED_COMMIT, str(folder), folder.name)

    def copy(self, folder: Path, target: Path) -> None:
        self._run(LAKEFEED_COPY, folder.name, str(target))

    def _run(self, code: str, *arguments: str) -> None:
        places = {"LAKEFEED_HOME": str(self.store), "LAKEFEED_CACHE_DIR": str(self.home / "lakefeed-cache")}
        variables = {**places, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(self.home.parent / "bytecode")}
        run([self.program, "-c", code, *arguments], self.home, variables)


@dataclass
class Dvc:
    """``dvc add`` without Git, and ``dvc checkout`` in another folder with the same cache. Nothing is pushed."""

    home: Path
    program: str
    name: str = "dvc"

    @property
    def store(self) -> Path:
        return self.home / ".dvc" / "cache"

    def prepare(self) -> None:
        self._run(self.home, "init", "--no-scm")
        for option in ("core.analytics", "core.check_update"):
            self._run(self.home, "config", option, "false")

    def start(self) -> None:
        self._run(self.home, "status")

    def commit(self, folder: Path) -> None:
        self._run(self.home, "add", folder.name)

    def copy(self, folder: Path, target: Path) -> None:
        target.mkdir()
        shutil.copytree(self.home / ".dvc", target / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
        with (target / ".dvc" / "config").open("a") as config:
            config.write(f"[cache]\n    dir = {self.store}\n")
        shutil.copyfile(self.home / f"{folder.name}.dvc", target / f"{folder.name}.dvc")
        self._run(target, "checkout")

    def _run(self, folder: Path, *arguments: str) -> None:
        places = {name: str(self.home / "dvc-places") for name in ("DVC_SITE_CACHE_DIR", "DVC_GLOBAL_CONFIG_DIR")}
        run([self.program, *arguments, "--quiet"], folder, {**places, "DVC_NO_ANALYTICS": "1"})


@dataclass
class Restic:
    """``restic backup`` and ``restore`` without compression. restic encrypts what it stores."""

    home: Path
    program: str
    name: str = "restic"

    @property
    def store(self) -> Path:
        return self.home / "restic"

    def prepare(self) -> None:
        self._run("init", "--repository-version", "2")

    def start(self) -> None:
        self._run("snapshots")

    def commit(self, folder: Path) -> None:
        self._run("backup", folder.name)

    def copy(self, folder: Path, target: Path) -> None:
        self._run("restore", "latest", "--path", str(folder), "--target", str(target))

    def _run(self, *arguments: str) -> None:
        places = {
            "RESTIC_REPOSITORY": str(self.store),
            "RESTIC_PASSWORD": "benchmark",
            "RESTIC_CACHE_DIR": str(self.home / "restic-cache"),
            "RESTIC_COMPRESSION": "off",
        }
        run([self.program, "--quiet", *arguments], self.home, places)


PEERS: Mapping[str, Callable[[Path, str], Contestant]] = {"dvc": Dvc, "restic": Restic}


def run(command: list[str], folder: Path, variables: Mapping[str, str]) -> None:
    subprocess.run(command, cwd=folder, env={**os.environ, **variables}, check=True, stdout=subprocess.DEVNULL)


def find_peers(values: list[str]) -> dict[str, str]:
    """Returns the programs of peers, each given as ``name``, found on PATH, or as ``name=path``.

    Raises:
        ValueError: a peer is unknown, or its program was not found.
    """
    programs = {}
    for value in values:
        name, _, path = value.partition("=")
        program = shutil.which(path or name)
        if name not in PEERS or program is None:
            raise ValueError(f"no peer {value!r}: the peers are {', '.join(PEERS)}, each on PATH or as NAME=PATH")
        programs[name] = program
    return programs


@dataclass(frozen=True)
class Cost:
    """The CPU seconds, the seconds, and the stored KiB of a step."""

    cpu: float
    seconds: float
    stored: float


def measure(contestant: Contestant, act: Callable[[], None]) -> Cost:
    before, began, cpu = folder_bytes(contestant.store), time.perf_counter(), cpu_seconds()
    act()
    stored = folder_bytes(contestant.store) - before
    return Cost(cpu_seconds() - cpu, time.perf_counter() - began, stored / 1024)


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def compare(programs: Mapping[str, str], files: int, mib: int, rounds: int) -> None:
    """Prints the costs of all steps, and the ratio of each peer to lakefeed."""
    costs: dict[str, dict[str, list[Cost]]] = defaultdict(lambda: defaultdict(list))
    for number in range(rounds):
        home = Path(f"round{number}").absolute()
        home.mkdir()
        contestants: list[Contestant] = [
            Lakefeed(home),
            *(PEERS[name](home, program) for name, program in programs.items()),
        ]
        contestants = contestants[number % len(contestants) :] + contestants[: number % len(contestants)]
        for contestant in contestants:
            contestant.prepare()
        take_turns(contestants, home, files, mib, number, costs)
        shutil.rmtree(home)
    show(costs)


def take_turns(
    contestants: list[Contestant],
    home: Path,
    files: int,
    mib: int,
    seed: int,
    costs: dict[str, dict[str, list[Cost]]],
) -> None:
    def step(name: str, act: Callable[[Contestant], None]) -> None:
        time.sleep(RACY_SECONDS)  # younger files are read again
        for each in contestants:
            costs[name][each.name].append(measure(each, lambda each=each: act(each)))  # type: ignore[misc]

    random = np.random.default_rng(seed)
    folder, large = home / "files", home / "large"
    for number in range(files):
        path = folder / f"{number % 100:02}" / f"{number:06}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.bytes(FILE_BYTES))
    step("start, and a look at the versions", lambda each: each.start())
    step(f"commit of {files:,} files of 20 KB", lambda each: each.commit(folder))
    step("commit without a change", lambda each: each.commit(folder))
    (folder / "00" / "000000.bin").write_bytes(random.bytes(FILE_BYTES))
    step("commit of one changed file", lambda each: each.commit(folder))
    step("copy into an empty folder", lambda each: each.copy(folder, home / f"copy-{each.name}"))
    shutil.rmtree(folder)
    large.mkdir()
    with (large / "checkpoint.bin").open("wb") as stream:
        for _ in range(mib):
            stream.write(random.bytes(1 << 20))
    step(f"commit of a file of {mib} MiB", lambda each: each.commit(large))
    with (large / "checkpoint.bin").open("r+b") as stream:
        stream.seek(mib << 19)
        stream.write(b"1234567")
    step("commit after 7 bytes of it changed", lambda each: each.commit(large))


def show(costs: Mapping[str, Mapping[str, list[Cost]]]) -> None:
    print(f"{'':36}{'':10}{'CPU s':>8}{'seconds':>9}{'KiB stored':>12}{'CPU / lakefeed':>16}")
    for step, by_name in costs.items():
        best = {name: min(each, key=lambda cost: cost.cpu) for name, each in by_name.items()}
        for name, cost in best.items():
            ratio = cost.cpu / best["lakefeed"].cpu
            print(f"{step:36}{name:10}{cost.cpu:8.2f}{cost.seconds:9.2f}{cost.stored:12,.0f}{ratio:16.1f}", flush=True)
