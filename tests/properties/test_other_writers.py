"""Random histories that lakefeed and PyIceberg write together, with rollbacks, branches and expired snapshots.

The model knows the true parent of every snapshot and the rows that it had. Every row has an id of its own.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from unittest.mock import patch

import pyarrow as pa
import pytest
from pyiceberg.table import Table

from lakefeed import Dataset
from lakefeed.catalog.lake import Lake
from lakefeed.errors import UnsupportedError
from lakefeed.routines import Routine, run_versions

SCHEMA = pa.schema([("id", pa.int64())])
COPY = Routine("copy", lambda rows: rows, "t", "copied")
ACTIONS = (
    "append", "plain_append", "delete", "plain_delete", "plain_overwrite", "overwrite", "restore", "set_current",
    "branch", "publish", "expire", "expire", "run",
)  # fmt: skip


@dataclass
class Commit:
    """A snapshot as it was when it was committed."""

    number: int
    parent: int | None
    rows: frozenset[int]


@dataclass
class History:
    """A dataset ``t``, what is known of its snapshots, and the actions so far."""

    chance: random.Random
    commits: dict[int, Commit] = field(default_factory=dict)
    branches: list[str] = field(default_factory=list)
    rows_made: int = 0

    @property
    def table(self) -> Table:
        return Lake.current().table("t")

    @property
    def now(self) -> Commit:
        return self.commits[self.table.metadata.current_snapshot_id or 0]

    def fresh(self, most: int = 3) -> pa.Table:
        first, self.rows_made = self.rows_made, self.rows_made + self.chance.randint(1, most)
        return pa.table({"id": range(first, self.rows_made)}, schema=SCHEMA)

    def some(self, most: int = 2) -> list[int]:
        return self.chance.sample(sorted(self.now.rows), min(len(self.now.rows), self.chance.randint(1, most)))

    def record(self) -> None:
        """Takes down the snapshots that are new."""
        table = self.table
        for snapshot in table.metadata.snapshots:
            if snapshot.snapshot_id not in self.commits:
                rows = table.scan(snapshot_id=snapshot.snapshot_id).to_arrow()["id"].to_pylist()
                parent = snapshot.parent_snapshot_id
                self.commits[snapshot.snapshot_id] = Commit(snapshot.sequence_number or 0, parent, frozenset(rows))

    def line(self) -> list[Commit]:
        """The current commit and its true ancestors, newest first."""
        found: list[Commit] = []
        at = self.table.metadata.current_snapshot_id
        while at is not None:
            found.append(self.commits[at])
            at = self.commits[at].parent
        return found

    # ------------------------------------------------------------------ actions

    def append(self) -> None:
        Dataset.from_arrow(self.fresh()).append_to("t")

    def plain_append(self) -> None:
        self.table.append(self.fresh())

    def delete(self) -> None:
        if rows := self.some():
            Dataset("t").delete_rows(f"id in ({', '.join(map(str, rows))})")

    def plain_delete(self) -> None:
        if rows := self.some():
            self.table.delete(f"id in ({', '.join(map(str, rows))})")

    def plain_overwrite(self) -> None:
        if rows := self.some():
            self.table.overwrite(self.fresh(1), overwrite_filter=f"id in ({', '.join(map(str, rows))})")

    def overwrite(self) -> None:
        rows = [*self.some(9), *self.fresh(1)["id"].to_pylist()]
        Dataset.from_dict({"id": rows}, schema=SCHEMA).overwrite("t")

    def restore(self) -> None:
        Dataset("t").restore(self.chance.choice(Dataset("t").list_versions()).version)

    def set_current(self) -> None:
        chosen = self.chance.choice(self.table.metadata.snapshots).snapshot_id
        self.table.manage_snapshots().set_current_snapshot(chosen).commit()

    def branch(self) -> None:
        if not self.branches or self.chance.random() < 0.5:
            self.branches.append(f"b{len(self.branches)}")
            head = self.table.metadata.current_snapshot_id or 0
            self.table.manage_snapshots().create_branch(head, self.branches[-1]).commit()
        self.table.append(self.fresh(1), branch=self.chance.choice(self.branches))

    def publish(self) -> None:
        if self.branches:
            self.table.manage_snapshots().set_current_snapshot(ref_name=self.chance.choice(self.branches)).commit()

    def expire(self) -> None:
        named = {ref.snapshot_id for ref in self.table.metadata.refs.values()}
        free = [s.snapshot_id for s in self.table.metadata.snapshots if s.snapshot_id not in named]
        if free:
            chosen = self.chance.sample(free, self.chance.randint(1, max(1, len(free) // 2)))
            self.table.maintenance.expire_snapshots().by_ids(chosen).commit()

    def run(self) -> bool:
        """Whether the routine could tell what is new."""
        try:
            list(run_versions(COPY))
        except UnsupportedError:
            return False
        return True

    # ------------------------------------------------------------------ what must hold

    def check_versions(self) -> None:
        listed = Dataset("t").list_versions()
        true = [commit.number for commit in self.line()]
        assert {version.version for version in listed} <= set(true)
        assert listed[0].version == true[0]
        for version in self.chance.sample(listed, min(2, len(listed))):
            assert read(Dataset("t", version=version.version)) == Counter(self.commits[version.snapshot_id].rows)

    def check_range(self) -> None:
        listed = Dataset("t").list_versions()[::-1]
        if len(listed) < 2:
            return
        first, last = (listed[at] for at in sorted(self.chance.sample(range(len(listed)), 2)))
        before, after = self.commits[first.snapshot_id].rows, self.commits[last.snapshot_id].rows
        earlier = {row for commit in self.line() if commit.number <= first.version for row in commit.rows}
        try:
            added = read(Dataset("t").added_since(first.version, last.version))
            removed = read(Dataset("t").removed_since(first.version, last.version))
        except UnsupportedError:
            return
        assert set(added.values()) <= {1}
        assert after - earlier <= set(added)
        assert not earlier & set(added)
        assert before - after <= set(removed)
        report = Dataset("t").changes(first.version, last.version)
        assert (report.added, report.removed) == (len(after - before), len(before - after))

    def check_copies(self, whole: bool) -> None:
        if Dataset.exists("copied"):
            copied = read(Dataset("copied"))
            assert set(copied.values()) <= {1}
            assert not whole or self.now.rows <= set(copied)


def read(rows: Dataset) -> Counter[int]:
    return Counter(rows.to_arrow()["id"].to_pylist())


def try_history(seed: int, length: int) -> None:
    with tempfile.TemporaryDirectory() as home, patch.dict(os.environ, {"LAKEFEED_HOME": home}):
        history = History(random.Random(seed))
        Dataset.from_arrow(history.fresh()).save("t")
        history.record()
        for _ in range(length):
            action = history.chance.choice(ACTIONS)
            whole = getattr(history, action)()
            history.record()
            history.check_versions()
            history.check_range()
            history.check_copies(action == "run" and whole)
        Lake.current().close()


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.live) for seed in (2, 3))])
def test_histories_of_several_writers(seed: int) -> None:
    try_history(seed, 8)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", range(1_000, 2_000))
def test_many_histories_of_several_writers(seed: int) -> None:
    try_history(seed, 18)
