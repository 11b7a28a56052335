"""The cursor of a sensor: the state in which each name was settled, so that a tick examines only changes.

The cursor is a hint. If it is lost or stale, a tick examines everything again. The lake and Dagster's records decide
what is due, so no work is lost or repeated.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

# Dagster stops a sensor after 60 s. The next tick begins where this one stopped.
BUDGET_SECONDS = 15.0


@dataclass
class SensorCursor:
    """The state of a sensor between ticks.

    Attributes:
        settled: for each name the state in which it was settled, and until when (None: until it changes).
        first: the name with which the next tick begins.
        reload: the datasets for which a reload was requested, and when.
        at: the time of the last tick, in seconds since 1970.
    """

    settled: dict[str, tuple[str, float | None]] = field(default_factory=dict)
    first: str | None = None
    reload: tuple[str, float] | None = None
    at: float = 0.0

    @classmethod
    def parse(cls, cursor: str | None) -> SensorCursor:
        """Returns the cursor that `dump` wrote. Any other text gives an empty cursor."""
        try:
            facts: dict[str, Any] = json.loads(cursor or "{}")
            settled = {name: (state, until) for name, (state, until) in facts.get("settled", {}).items()}
            reload = facts.get("reload")
            return cls(
                settled, facts.get("first"), (reload[0], reload[1]) if reload else None, float(facts.get("at", 0))
            )
        except (ValueError, TypeError, AttributeError, KeyError, IndexError):
            return cls()

    def dump(self) -> str:
        """Returns the cursor as text."""
        facts = {"settled": self.settled, "first": self.first, "reload": self.reload, "at": self.at}
        return json.dumps(facts, separators=(",", ":"), sort_keys=True)

    def unsettled_names(self, states: Mapping[str, str], now: float | None = None) -> Iterator[str]:
        """Yields the names that are not settled in their state, for as long as the time budget allows.

        It begins where the last tick ended.
        """
        moment = time.time() if now is None else now
        if moment < self.at:  # the clock was set back, so times to wait for are unknown
            self.settled = {name: (state, until) for name, (state, until) in self.settled.items() if until is None}
        self.at = moment
        began = time.monotonic()
        unsettled = [name for name, state in states.items() if not self._is_settled(name, state, moment)]
        at = unsettled.index(self.first) if self.first in unsettled else 0
        self.first = None
        for name in [*unsettled[at:], *unsettled[:at]]:
            if time.monotonic() - began > BUDGET_SECONDS:
                self.first = name
                return
            yield name

    def settle(self, name: str, state: str, until: float | None = None) -> None:
        """Records that a name needs no work before it changes, or before ``until`` (seconds since 1970)."""
        self.settled[name] = (state, until)

    def forget_others(self, names: Iterable[str]) -> None:
        """Removes the entries of all other names."""
        names = set(names)
        self.settled = {name: state for name, state in self.settled.items() if name in names}

    def _is_settled(self, name: str, state: str, moment: float) -> bool:
        if name not in self.settled:
            return False
        known, until = self.settled[name]
        return known == state and (until is None or moment < until)


def fingerprint(*parts: str | None) -> str:
    """Returns a short text that changes with each of the parts."""
    return hashlib.blake2b("\0".join(part or "" for part in parts).encode(), digest_size=6).hexdigest()
