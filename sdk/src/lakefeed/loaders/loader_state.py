"""Checkpoints of a loader: the position in an epoch, and the identity of the plan."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lakefeed._validate import is_whole
from lakefeed.errors import StateMismatchError, quoted_list
from lakefeed.plan import Node, fingerprint, lineage, walk
from lakefeed.plan.fingerprint import marks
from lakefeed.run.stream_reader import Window

FORMAT = 3
"""1: shuffled in larger pools of fewer blocks. 2: put what cannot be addressed on disk, and shuffled it there."""
SAME_UNLESS_STREAMED = 2
TEXT_CHARS = 120
NODES_NAMED = 12
TABLES_NAMED = 3
UUID_CHARS = 8
TYPES: Mapping[str, type | tuple[type, ...]] = {
    "fingerprint": str,
    "snapshot": str,
    "plan": str,
    "seed": (int, type(None)),
    "rows": (int, type(None)),
    "epoch": int,
    "position": int,
}

FIRST_WINDOW = Window()


@dataclass(frozen=True)
class PlanIdentity:
    """The identity of a plan and its data. ``plan``: a short mark for each node, for the message of a mismatch.

    ``tables``: the datasets that are read, each with the beginning of its table's uuid, as far as there is room.
    """

    fingerprint: str
    snapshot: str
    plan: str
    seed: int | None
    tables: str = ""

    @classmethod
    def of(cls, plan: Node, seed: int | None) -> PlanIdentity:
        """Returns the identity of a plan whose topmost shuffle has ``seed``."""
        sources = "; ".join(source.identity for source in walk.sources(plan))
        if len(sources) > TEXT_CHARS:
            sources = f"{sources[: TEXT_CHARS // 2]}…{hashlib.sha256(sources.encode()).hexdigest()[:16]}"
        return cls(fingerprint(plan), sources, " ".join(marks(plan)[:NODES_NAMED]), seed, _tables(plan))


@dataclass(frozen=True)
class LoaderState:
    """The next position of the epoch to be delivered, over all ranks.

    ``rows``: those of the epoch; None of a stream whose end is unknown. ``head`` and ``window`` are facts about a
    stream, see `lakefeed.run.stream_reader.StreamProgress`. ``window_rows``: those of a shuffle's window, if large rows
    make them fewer than asked for.
    """

    identity: PlanIdentity
    rows: int | None
    epoch: int
    position: int
    head: str | None = None
    window: Window = FIRST_WINDOW
    window_rows: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, under 1 KB."""
        stream = (
            {"head": self.head, "window": [self.window.number, self.window.start]}
            if self.rows is None or self.head
            else {}
        )
        return {
            "format": FORMAT,
            **asdict(self.identity),
            "rows": self.rows,
            "epoch": self.epoch,
            "position": self.position,
            **({} if self.window_rows is None else {"window_rows": self.window_rows}),
            **stream,
        }

    @classmethod
    def from_json(
        cls,
        state: Any,
        identity: PlanIdentity,
        rows: Callable[[int], int | None],
        window_rows: Callable[[int], int | None] = lambda _: None,
        shuffles_stream: Callable[[int], bool] = lambda _: False,
    ) -> LoaderState:
        """Returns the state, if it belongs to this plan over this data.

        Args:
            state: as `to_json` returned it.
            identity: of the plan here.
            rows: returns the rows that an epoch has here, None for a stream.
            window_rows: returns the rows of a window of an epoch here, None if they are as many as asked for.
            shuffles_stream: returns whether an epoch here is a shuffled stream, whose order has been another one.

        Raises:
            StateMismatchError: it does not, or is not a loader's state; the message says what changed.
        """
        if isinstance(state, Mapping):
            state = {name: _plain(value) for name, value in state.items()}
        formats = (FORMAT, SAME_UNLESS_STREAMED)
        if not isinstance(state, Mapping) or state.get("format") not in formats or not _well_formed(state):
            raise StateMismatchError("this is not a state of a lakefeed loader, or it has another format version")
        tables = state.get("tables")  # older checkpoints have none
        saved = PlanIdentity(
            state["fingerprint"],
            state["snapshot"],
            state["plan"],
            state["seed"],
            tables if isinstance(tables, str) else "",
        )
        changes = _changes(saved, identity)
        epoch, position = state["epoch"], state["position"]
        if not changes and epoch >= 0 and state["rows"] != rows(epoch):
            changes.append(_rows_differ(epoch, state["rows"], rows(epoch)))
        if not changes and epoch >= 0 and state["format"] == SAME_UNLESS_STREAMED and shuffles_stream(epoch):
            changes.append("its rows were shuffled on disk, and are streamed in another order now")
        if not changes and epoch >= 0 and state.get("window_rows") != window_rows(epoch):
            changes.append("the shuffle's windows have another number of rows (they are bounded by bytes)")
        if changes:
            raise StateMismatchError(
                f"this checkpoint belongs to another epoch order: {'; '.join(changes)}. Build the loader from the same "
                "version and the same operations as when the checkpoint was written"
            )
        if epoch < 0 or position < 0 or (state["rows"] is not None and position > state["rows"]):
            raise StateMismatchError(f"there is no position {position} in epoch {epoch} of {state['rows']} rows")
        head, window = state.get("head"), Window(*state.get("window", (0, 0)))
        return cls(identity, state["rows"], epoch, position, head, window, state.get("window_rows"))


def _rows_differ(epoch: int, before: int | None, now: int | None) -> str:
    if None not in (before, now):
        return f"epoch {epoch} had {before} rows and has {now}"
    return "its rows were streamed and are not now" if before is None else "its rows are streamed now and were not"


def _plain(value: Any) -> Any:
    """Returns whole numbers of numpy and torch as numbers of Python, and a tuple as a list, with those inside."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    scalar = is_whole(value) and not getattr(value, "shape", ())
    return int(value) if scalar and not isinstance(value, np.bool_) else value


def _well_formed(state: Mapping[str, Any]) -> bool:
    window = state.get("window", [0, 0])
    return (
        all(
            name in state and isinstance(state[name], kind) and not isinstance(state[name], bool)
            for name, kind in TYPES.items()
        )
        and isinstance(state.get("head"), str | None)
        and isinstance(window, list)
        and len(window) == 2
        and all(isinstance(number, int) and number >= 0 for number in window)
    )


def _tables(plan: Node) -> str:
    pairs = {origin.dataset: origin.table_uuid[:UUID_CHARS] for origin in lineage(plan).origins}
    return " ".join(f"{name}={uuid}" for name, uuid in list(pairs.items())[:TABLES_NAMED])


def _made_again(before: str, now: str) -> list[str]:
    """The datasets that are another table now."""
    known = dict(pair.split("=", 1) for pair in before.split() if "=" in pair)
    pairs = (pair.split("=", 1) for pair in now.split())
    return [name for name, uuid in pairs if known.get(name, uuid) != uuid]


def _changes(saved: PlanIdentity, now: PlanIdentity) -> list[str]:
    changes = []
    if saved.snapshot != now.snapshot:
        again = _made_again(saved.tables, now.tables)
        why = f" (dataset {quoted_list(again)} was deleted and made again)" if again else ""
        changes.append(f"the data was {saved.snapshot!r} and is {now.snapshot!r}{why}")
    if saved.seed != now.seed:
        changes.append(f"the shuffle's seed was {saved.seed} and is {now.seed}")
    if saved.plan != now.plan and (difference := _difference(saved, now)):
        changes.append(difference)
    if not changes and saved.fingerprint != now.fingerprint:
        changes.append("the plan has changed")
    return changes


def _difference(saved: PlanIdentity, now: PlanIdentity) -> str:
    """The operations that came, went or changed; those that a change of data or seed explains are left out."""
    known = {"Scan"} if saved.snapshot != now.snapshot else set()
    known |= {"Shuffle"} if saved.seed != now.seed and None not in (saved.seed, now.seed) else set()
    before, after = saved.plan.split(), now.plan.split()
    gone = [mark for mark in before if mark not in after and mark.partition(":")[0] not in known]
    new = [mark for mark in after if mark not in before and mark.partition(":")[0] not in known]
    if gone or new:
        return f"the plan had {' '.join(gone) or 'no such step'} and now has {' '.join(new) or 'no such step'}"
    return "" if known else "the plan has the same steps in another order"
