"""What a tick has to look at: only what changed since it was found settled. The cursor is a hint; losing it costs time.

A cursor that is lost or stale never loses or repeats work: then a tick looks at everything again, and what is due is
decided by the lake and by what Dagster has recorded.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

# A sensor is stopped after 60 s; what a tick does not get to, the next one begins with.
BUDGET_SECONDS = 15.0


@dataclass
class SensorCursor:
    """``settled``: for each name the state that it was settled in, and until when (None: until it changes).

    ``at``: when that was looked at last, in seconds since 1970.
    """

    settled: dict[str, tuple[str, float | None]] = field(default_factory=dict)
    first: str | None = None
    reload: tuple[str, float] | None = None
    at: float = 0.0

    @classmethod
    def parse(cls, cursor: str | None) -> SensorCursor:
        """What `dump` wrote; anything else is as good as none."""
        try:
            found: dict[str, Any] = json.loads(cursor or "{}")
            settled = {name: (state, until) for name, (state, until) in found.get("settled", {}).items()}
            asked = found.get("reload")
            return cls(settled, found.get("first"), (asked[0], asked[1]) if asked else None, float(found.get("at", 0)))
        except (ValueError, TypeError, AttributeError, KeyError, IndexError):
            return cls()

    def dump(self) -> str:
        """The cursor."""
        facts = {"settled": self.settled, "first": self.first, "reload": self.reload, "at": self.at}
        return json.dumps(facts, separators=(",", ":"), sort_keys=True)

    def to_look_at(self, states: Mapping[str, str], now: float | None = None) -> Iterator[str]:
        """The names that are not settled in their state, beginning where the last tick ended, as time allows."""
        moment = time.time() if now is None else now
        if moment < self.at:  # the clock was put back: nobody knows when the time comes that somebody waits for
            self.settled = {name: (state, until) for name, (state, until) in self.settled.items() if until is None}
        self.at = moment
        began = time.monotonic()
        open_ones = [name for name, state in states.items() if not self._is_settled(name, state, moment)]
        at = open_ones.index(self.first) if self.first in open_ones else 0
        self.first = None
        for name in [*open_ones[at:], *open_ones[:at]]:
            if time.monotonic() - began > BUDGET_SECONDS:
                self.first = name
                return
            yield name

    def settle(self, name: str, state: str, until: float | None = None) -> None:
        """Nothing to do for it before it changes, or before ``until`` (seconds since 1970)."""
        self.settled[name] = (state, until)

    def forget_others(self, names: Iterable[str]) -> None:
        """Keeps only what is known of these names."""
        kept = set(names)
        self.settled = {name: state for name, state in self.settled.items() if name in kept}

    def _is_settled(self, name: str, state: str, moment: float) -> bool:
        if name not in self.settled:
            return False
        known, until = self.settled[name]
        return known == state and (until is None or moment < until)


def fingerprint(*parts: str | None) -> str:
    """A short text that differs where one of the parts does."""
    return hashlib.blake2b("\0".join(part or "" for part in parts).encode(), digest_size=6).hexdigest()
