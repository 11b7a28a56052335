"""The options of a write besides its rows: provenance, idempotency key and fence."""

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
    """The writer of a version. It is stored in the snapshot summary.

    Attributes:
        run: the id of the run that writes.
        user: who writes; None for the user of the operating system.
        code: the version of the code that writes.
        message: a message for people.
        work: the message in machine-readable form.
        depth: the number of routines between the rows and their first writer. It stops a routine that feeds itself.
    """

    run: str | None = None
    user: str | None = None
    code: str | None = None
    message: str | None = None
    work: str | None = None
    depth: int = 0

    def __post_init__(self) -> None:
        for name in ("run", "user", "code", "message", "work"):
            _require_text(getattr(self, name), f"Provenance.{name}", optional=True)
        _require_count(self.depth, "Provenance.depth")

    def summary_entries(self) -> dict[str, str]:
        """Returns the entries of the snapshot summary."""
        named = {RUN: self.run, USER: self.user or _os_user(), CODE: self.code, MESSAGE: self.message, WORK: self.work}
        entries = {key: value for key, value in named.items() if value is not None}
        return entries | ({DEPTH: str(self.depth)} if self.depth else {})


@dataclass(frozen=True)
class Fence:
    """A value of the table that an action checks and sets in its commit, so that only one of several actions succeeds.

    Attributes:
        key: the name of the fence.
        expected: the value that the fence must have; None if no action has set it yet.
        value: the value that the action sets.
    """

    key: str
    expected: str | None
    value: str

    def __post_init__(self) -> None:
        _require_text(self.key or None, "Fence.key")
        _require_text(self.expected, "Fence.expected", optional=True)
        _require_text(self.value, "Fence.value")


@dataclass(frozen=True)
class OpenFence(Fence):
    """A fence whose action is completed when its rows are written, because its value depends on them.

    Attributes:
        complete: returns the action to commit. It is called once, right after the rows of `create` and `append` were
            written, and at the start of an edit. An error that it raises ends the action.
    """

    complete: Callable[[Action], Action]


@dataclass(frozen=True)
class Condition:
    """A further fence of an action: the value that it must have, and the value that it gets (None leaves it)."""

    key: str
    expected: str | None
    value: str | None


class WriteOptions(TypedDict, total=False):
    """The keyword arguments of a write that concern its commit. See ``Dataset.save``."""

    provenance: Provenance | None
    idempotency_key: str | None
    fence: Fence | None


def takes_write_options(write: AnyFunction) -> AnyFunction:
    """Adds the keywords of `WriteOptions` to the signature of a write, for `help` and completion."""
    signature = inspect.signature(write)
    keywords = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind.__forward_arg__)
        for name, kind in WriteOptions.__annotations__.items()
    ]
    others = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    write.__signature__ = signature.replace(parameters=[*others, *keywords])  # type: ignore[attr-defined]  # of `inspect`
    return write


def _require_text(value: Any, name: str, *, optional: bool = False) -> None:
    # Checked here, because the commit would only fail once all rows are written.
    if not isinstance(value, str) and not (optional and value is None):
        raise InvalidArgumentError(f"{name} must be text{' or None' if optional else ''}, got {value!r:.80}")


def _require_count(value: Any, name: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidArgumentError(f"{name} must be an integer from 0, got {value!r:.80}")


@dataclass(frozen=True)
class Action:
    """An action on a table."""

    provenance: Provenance = Provenance()
    idempotency_key: str | None = None
    fence: Fence | None = None
    conditions: tuple[Condition, ...] = ()

    def completed(self) -> Action:
        """Returns the action to commit, for which the rows are written. See `OpenFence`."""
        return self.fence.complete(self) if isinstance(self.fence, OpenFence) else self

    def summary_entries(self) -> dict[str, str]:
        """Returns the entries of the snapshot summary."""
        key = {IDEMPOTENCY_KEY: self.idempotency_key} if self.idempotency_key is not None else {}
        return {**self.provenance.summary_entries(), **key}

    def properties(self) -> dict[str, str]:
        """Returns the table properties that the commit sets."""
        fences = {} if self.fence is None else {self.fence.key: self.fence.value}
        fences |= {each.key: each.value for each in self.conditions if each.value is not None}
        return {FENCE_PREFIX + key: value for key, value in fences.items()}

    def earlier_version(self, table: Table) -> DatasetVersion | None:
        """Returns the version that has the idempotency key of this action; None if there is none."""
        if self.idempotency_key is None:
            return None
        for snapshot in ancestry.ancestry(table):
            if snapshot.summary is not None and snapshot.summary.get(IDEMPOTENCY_KEY) == self.idempotency_key:
                return versions.version_of(snapshot, table)
        return None

    def check_fence(self, table: Table | None) -> None:
        """Checks that the fence has the expected value. ``table`` is None for a table that does not exist yet.

        Raises:
            FenceError: another run has moved the fence.
        """
        for fence in (*(() if self.fence is None else (self.fence,)), *self.conditions):
            current = fence_value(table, fence.key) if table is not None else None
            if current != fence.expected:
                raise FenceError(
                    f"fence {fence.key!r} is at {current!r}, expected {fence.expected!r}: another run has moved it. "
                    "Nothing was written. Read the fence again and continue from there"
                )


def fence_value(table: Table, key: str) -> str | None:
    """Returns the value of a fence; None before the first fenced action."""
    return table.properties.get(FENCE_PREFIX + key)


@functools.cache
def _os_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        return f"uid-{os.getuid()}"
