"""Checkpoints of a loader: where an epoch stands, and what it belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from lakefeed.errors import StateMismatchError
from lakefeed.ops import Scan
from lakefeed.plan import Node, fingerprint
from lakefeed.plan.fingerprint import marks
from lakefeed.plan.walk import nodes

FORMAT = 1
TEXT_CHARS = 120
NODES_NAMED = 12


@dataclass(frozen=True)
class PlanIdentity:
    """What a checkpoint belongs to. ``plan``: one short mark a node, so that a mismatch can say what changed."""

    fingerprint: str
    snapshot: str
    plan: str
    rows: int

    @classmethod
    def of(cls, plan: Node, rows: int) -> PlanIdentity:
        """The identity of a plan over ``rows`` rows."""
        sources = "; ".join(node.source.identity for node in nodes(plan) if isinstance(node, Scan))
        if len(sources) > TEXT_CHARS:
            sources = f"{sources[: TEXT_CHARS // 2]}…{hashlib.sha256(sources.encode()).hexdigest()[:16]}"
        return cls(fingerprint(plan), sources, " ".join(marks(plan)[:NODES_NAMED]), rows)


@dataclass(frozen=True)
class LoaderState:
    """The next place of the epoch to be delivered, over all ranks."""

    identity: PlanIdentity
    seed: int | None
    epoch: int
    position: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, under 1 KB."""
        return {
            "format": FORMAT,
            **asdict(self.identity),
            "seed": self.seed,
            "epoch": self.epoch,
            "position": self.position,
        }

    @classmethod
    def from_json(cls, state: Any, identity: PlanIdentity, seed: int | None) -> LoaderState:
        """The state, if it belongs to this plan over this data.

        Raises:
            StateMismatchError: it does not, or is not a loader's state; the message says what changed.
        """
        needed = {"format", "epoch", "position", "seed", *(field.name for field in fields(PlanIdentity))}
        if not isinstance(state, Mapping) or not needed <= state.keys() or state["format"] != FORMAT:
            raise StateMismatchError("this is no state of a lakefeed loader (or one of another format version)")
        saved = PlanIdentity(**{field.name: state[field.name] for field in fields(PlanIdentity)})
        changes = _changes(saved, identity)
        if changes:
            raise StateMismatchError(
                f"this checkpoint belongs to another epoch order: {'; '.join(changes)}. Build the loader from the same "
                "version and the same operations as when the checkpoint was written"
            )
        epoch, position = state["epoch"], state["position"]
        if not (isinstance(epoch, int) and isinstance(position, int) and 0 <= position <= identity.rows):
            raise StateMismatchError(
                f"position {position!r} in epoch {epoch!r} is not in an epoch of {identity.rows} rows"
            )
        return cls(identity, seed, epoch, position)


def _changes(saved: PlanIdentity, now: PlanIdentity) -> list[str]:
    changes = []
    if saved.snapshot != now.snapshot:
        changes.append(f"the data was {saved.snapshot!r} and is {now.snapshot!r}")
    if saved.plan != now.plan:
        gone = [mark for mark in saved.plan.split() if mark not in now.plan.split()]
        new = [mark for mark in now.plan.split() if mark not in saved.plan.split()]
        changes.append(
            f"the plan had {' '.join(gone) or 'the same steps in another order'} and now has {' '.join(new) or 'not'}"
        )
    if not changes and saved.fingerprint != now.fingerprint:
        changes.append("the plan has changed")
    if not changes and saved.rows != now.rows:
        changes.append(f"it had {saved.rows} rows and has {now.rows}")
    return changes
