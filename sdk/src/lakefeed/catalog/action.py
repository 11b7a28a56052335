"""What an action brings besides its rows: who writes, the key that makes it happen once, the fence it must pass."""

from __future__ import annotations

import functools
import getpass
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from lakefeed.catalog import ancestry, versions
from lakefeed.catalog.properties import CODE, DEPTH, FENCE_PREFIX, IDEMPOTENCY_KEY, MESSAGE, RUN, USER, WORK
from lakefeed.errors import FenceError, InvalidArgumentError

if TYPE_CHECKING:
    from pyiceberg.table import Table

    from lakefeed.catalog.versions import DatasetVersion

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


@dataclass(frozen=True)
class Provenance:
    """Who or what writes; kept with the version. ``user`` is the operating system's user where not given.

    ``work`` is the machine-readable half of ``message``; ``depth`` counts the routines that stand between the rows and
    whoever wrote them first, so that a routine that feeds itself comes to an end.
    """

    run: str | None = None
    user: str | None = None
    code: str | None = None
    message: str | None = None
    work: str | None = None
    depth: int = 0

    def __post_init__(self) -> None:
        for what in ("run", "user", "code", "message", "work"):
            _require_text(getattr(self, what), f"Provenance({what}=", maybe=True)
        _require_count(self.depth, "Provenance(depth=")

    def facts(self) -> dict[str, str]:
        """The entries of the snapshot summary."""
        named = {RUN: self.run, USER: self.user or _os_user(), CODE: self.code, MESSAGE: self.message, WORK: self.work}
        given = {key: value for key, value in named.items() if value is not None}
        return given | ({DEPTH: str(self.depth)} if self.depth else {})


@dataclass(frozen=True)
class Fence:
    """Lets an action land once: only while the table's fence ``key`` is ``expected``; it becomes ``value`` with it.

    ``expected=None`` means that no action has passed a fence of that key yet.
    """

    key: str
    expected: str | None
    value: str

    def __post_init__(self) -> None:
        _require_text(self.key or None, "Fence(key=")
        _require_text(self.expected, "Fence(expected=", maybe=True)
        _require_text(self.value, "Fence(value=")


class WriteOptions(TypedDict, total=False):
    """The keywords of a write that its commit takes: see ``Dataset.save``."""

    provenance: Provenance | None
    idempotency_key: str | None
    fence: Fence | None


def takes_write_options(write: AnyFunction) -> AnyFunction:
    """Spells the keywords of `WriteOptions` out in the signature of a write, for `help` and completion."""
    signature = inspect.signature(write)
    spelled = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind.__forward_arg__)
        for name, kind in WriteOptions.__annotations__.items()
    ]
    others = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    write.__signature__ = signature.replace(parameters=[*others, *spelled])  # type: ignore[attr-defined]  # of `inspect`
    return write


def _require_text(given: Any, what: str, *, maybe: bool = False) -> None:
    """Raises unless it is text (or, ``maybe``, None): anything else would only fail once all rows are written."""
    if not isinstance(given, str) and not (maybe and given is None):
        raise InvalidArgumentError(f"{what}{given!r:.80}): give text{', or None' if maybe else ''}")


def _require_count(given: Any, what: str) -> None:
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        raise InvalidArgumentError(f"{what}{given!r:.80}): give a whole number from 0 on")


@dataclass(frozen=True)
class Action:
    """One action on one table."""

    provenance: Provenance = Provenance()
    idempotency_key: str | None = None
    fence: Fence | None = None

    def facts(self) -> dict[str, str]:
        """What the snapshot summary says of the action."""
        key = {IDEMPOTENCY_KEY: self.idempotency_key} if self.idempotency_key is not None else {}
        return {**self.provenance.facts(), **key}

    def properties(self) -> dict[str, str]:
        """The table properties that move with the action."""
        return {FENCE_PREFIX + self.fence.key: self.fence.value} if self.fence is not None else {}

    def done(self, table: Table) -> DatasetVersion | None:
        """The version that an action of this idempotency key has written already."""
        if self.idempotency_key is None:
            return None
        for snapshot in ancestry.ancestry(table):
            if snapshot.summary is not None and snapshot.summary.get(IDEMPOTENCY_KEY) == self.idempotency_key:
                return versions.version_of(snapshot, table)
        return None

    def check_fence(self, table: Table | None) -> None:
        """Passes where the fence stands as expected; ``None`` is a table that does not exist yet.

        Raises:
            FenceError: another run has moved it.
        """
        if self.fence is None:
            return
        current = fence_value(table, self.fence.key) if table is not None else None
        if current != self.fence.expected:
            raise FenceError(
                f"the fence {self.fence.key!r} stands at {current!r}, not at {self.fence.expected!r}: another run has "
                "moved it and these rows were not written. Read the position again and go on from there"
            )


def fence_value(table: Table, key: str) -> str | None:
    """Where the fence of that key stands; None before the first fenced action."""
    return table.properties.get(FENCE_PREFIX + key)


@functools.cache
def _os_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        return f"uid-{os.getuid()}"
