"""Exactly once under a real Dagster whose runs, daemons and code server are killed while writers go on."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from lakefeed import Dataset
from lakefeed.routines import pending
from tests.orchestration.mortal import CODE, Mortal, mortal, processes_of
from tests.orchestration.soaked import ROUTINES
from tests.sdk.killing import append, ids, meanwhile

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not Path("/proc").exists(), reason="finds the processes in /proc"),
]
SOAKED = Path(__file__).with_name("soaked.py")


class Writers:
    """Rows with growing ids: every second version of `numbers`, else a file for `letters`."""

    def __init__(self, home: Path) -> None:
        self.landing, self.numbers, self.turns = home / "landing", itertools.count(), itertools.count()
        self.landing.mkdir(parents=True)

    def write(self) -> None:
        turn, rows = next(self.turns), list(itertools.islice(self.numbers, 7))
        if turn % 2 == 0:
            append("numbers", rows)
        else:
            text = "id\n" + "".join(f"{row}\n" for row in rows)
            (self.landing / f"{turn:06}.part").write_text(text)
            (self.landing / f"{turn:06}.part").rename(self.landing / f"{turn:06}.csv")


def storm(dagster: Mortal, draw: random.Random, *, runs: int, parts: int, lost: bool) -> None:
    """So many run processes die, and each of the parts so often, in a drawn order.

    ``lost``: in the middle of it, all that Dagster remembers goes too.
    """
    deaths = ["run"] * runs + [name for name in dagster.names if name == CODE or name == "daemon 0"] * parts
    draw.shuffle(deaths)
    for number, death in enumerate(deaths):
        if lost and number == len(deaths) // 2:
            forget_everything(dagster)
        if death == "run":
            dagster.kill_a_run(draw)
        else:
            dagster.kill(death)
            dagster.start(death)


def forget_everything(dagster: Mortal) -> None:
    """Cursors, run history, events, partitions: the instance's files are deleted."""
    dagster.kill()
    for kind in ("history", "schedules", "storage"):
        shutil.rmtree(dagster.instance / kind, ignore_errors=True)
    dagster.prepare()
    dagster.start()


def is_done(home: Path) -> bool:
    landed = len(list((home / "landing").glob("*.csv")))
    if not Dataset.exists("letters") or len(ids("letters")) < landed * 7:
        return False
    return all(pending(each) is None for each in ROUTINES)


def check(home: Path, writers: Writers) -> None:
    written = list(range(next(writers.numbers)))
    assert sorted(ids("numbers") + ids("letters")) == written
    assert ids("copies") == ids("numbers")
    assert Counter(ids("together")) == Counter(written)
    effects = [json.loads(line) for line in (home / "effects.jsonl").read_text().splitlines()]
    of_token = dict(effects)
    assert all(of_token[token] == rows for token, rows in effects)
    assert [row for rows in of_token.values() for row in rows] == ids("copies")


# In the soak 200 runs die, and 24 daemons and code servers each; three daemons at once in a quarter of it.
STORMS = [
    pytest.param(
        seed, 25, 3, 3 if seed > 6 else 1, id=f"storm {seed}", marks=[pytest.mark.soak, pytest.mark.timeout(0)]
    )
    for seed in range(1, 9)
]


@pytest.mark.parametrize(("seed", "runs", "parts", "daemons"), [pytest.param(0, 2, 1, 1, id="share"), *STORMS])
def test_every_row_has_its_result_once(home: Path, seed: int, runs: int, parts: int, daemons: int) -> None:
    soak, writers, draw = seed > 0, Writers(home), random.Random(seed)
    for _ in range(6):
        writers.write()
    with mortal(home, SOAKED, daemons=daemons) as dagster:
        with meanwhile(writers.write, pause=2.0 if soak else 15.0):
            storm(dagster, draw, runs=runs, parts=parts, lost=soak)
        if soak:  # what failed several times waits for more
            writers.write()
            writers.write()
        dagster.wait_for(lambda: is_done(home))
    check(home, writers)
    assert processes_of(home) == []
