"""The declaration of a routine: a function, what it reads, where its rows go, and how it is run."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from lakefeed.catalog import check_name
from lakefeed.dataset import Dataset
from lakefeed.errors import InvalidArgumentError
from lakefeed.routines.triggers import After, Appended, Manual, Removed, Trigger

RoutineFn: TypeAlias = Callable[..., Dataset | pa.Table | Iterable[pa.RecordBatch] | None]
Remade: TypeAlias = Literal["continue", "replace", "stop"]

NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
# Where a routine without an output keeps its position, and a row for each range that it has worked through.
LOGS = "routine-logs"
LOG_SCHEMA = pa.schema(
    [("source", pa.string()), ("version", pa.int64()), ("rows", pa.int64()), ("token", pa.string())]  # type: ignore[arg-type]
)
MAX_DEPTH = 32


@dataclass(frozen=True)
class RoutineRun:
    """What a function that has a parameter ``run`` is told.

    ``token``: the same whenever the same rows are handed in again, so that a side effect that was done already can be
    recognised. ``resources``: the objects that the routine asked for by name. ``run``: who runs it.
    """

    routine: str
    token: str
    resources: Mapping[str, Any] = field(default_factory=dict)
    run: str | None = None


@dataclass(frozen=True)
class Routine:
    """``fn`` over the rows appended to dataset ``source`` (or each of several), appended to dataset ``output``.

    Args:
        name: lower case, digits, ``_`` and ``-``; the position is stored under it.
        fn: takes one Dataset for each source, in order, and, if it has a parameter ``run``, a `RoutineRun`.
        source: one dataset or several; with several, what is new in all of them is handed in together.
        output: None for side effects only: then the function is called at least once for each version, again if it
            died before it came back, always with the same token for the same rows.
        schema: of the output; None: that of the first run, which must then return at least one (empty) batch.
        when: what makes it due; of several triggers, any.
        max_rows_per_run: a larger append is split; also the most rows of one commit.
        coalesce: versions are put together until they have so many rows; None: the trigger's ``min_rows``, if that is
            more than 1, else every version by itself.
        only_checked: versions that failed a check are left out, those not checked yet are waited for.
        on_remade: what to do when the source was deleted and made anew: "continue" with the new rows and keep the
            results of the old ones, "replace" the whole output with the results of the new ones, or "stop".
        max_depth: rows that so many routines have handed on are left out: the end of a cycle.
        retries: runs after a failed one, the first after ``backoff`` seconds, then twice as long each time.
        backoff: in seconds.
        timeout: seconds after which a run is ended.
        pool: of concurrency, shared with whatever else names it.
        resources: names of what the function needs, handed in by `RoutineRun`.
        tags: of the runs that its sensor asks for, and of the asset (those of letters, digits, ``_``, ``.`` and ``-``).
        owners: who answers for it (mail addresses, or ``team:name``).
        distributed: the rows of the Dataset that it returns are made in parts, by the engine that the run is given.

    Raises:
        InvalidArgumentError, InvalidNameError: a declaration that cannot work.
    """

    name: str
    fn: RoutineFn
    source: str | tuple[str, ...]
    output: str | None
    schema: pa.Schema | None = None
    when: Trigger | tuple[Trigger, ...] = Appended()
    max_rows_per_run: int | None = None
    coalesce: int | None = None
    only_checked: bool = False
    on_remade: Remade = "continue"
    max_depth: int = MAX_DEPTH
    retries: int = 2
    backoff: float = 10.0
    timeout: float | None = None
    pool: str | None = None
    resources: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    owners: tuple[str, ...] = ()
    distributed: bool = False

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise InvalidArgumentError(
                f"{self.name!r} cannot name a routine: use a-z, 0-9, '_' and '-', starting with a letter"
            )
        for name in (*self.sources, *([self.output] if self.output is not None else [])):
            check_name(name)
        for tag in self.tags.items():
            if not all(isinstance(part, str) for part in tag):
                raise InvalidArgumentError(f"tags of {self.name!r} hold {tag}: give text for text (json.dumps a dict)")
        self._check_numbers()
        self._check_triggers()
        self._check_parameters()

    @property
    def sources(self) -> tuple[str, ...]:
        """The datasets that it reads."""
        return (self.source,) if isinstance(self.source, str) else tuple(self.source)

    @property
    def triggers(self) -> tuple[Trigger, ...]:
        """What makes it due."""
        return self.when if isinstance(self.when, tuple) else (self.when,)

    @property
    def target(self) -> str:
        """The dataset that it writes: the output, or the log of its side effects."""
        return self.output if self.output is not None else f"{LOGS}.{self.name}"

    @property
    def fence(self) -> str:
        """The key under which the position stands with the target."""
        return f"{self.name}/{'+'.join(self.sources)}"

    @property
    def reads_removed(self) -> bool:
        """Whether it reads the rows that were removed, rather than those that were added."""
        return any(isinstance(trigger, Removed) for trigger in self.triggers)

    @property
    def exact(self) -> bool:
        """Whether a run reads just the versions it is asked for, rather than also all that comes before them."""
        return all(
            isinstance(each, Manual) or (isinstance(each, After) and each.outcome == "failure")
            for each in self.triggers
        )

    @property
    def together(self) -> int:
        """Rows up to which versions are put together; 0: every version by itself."""
        if self.output is None:  # a token must not depend on what came later
            return 0
        if self.coalesce is not None:
            return self.coalesce
        least = max((t.min_rows for t in self.triggers if isinstance(t, Appended | Removed)), default=1)
        return least if least > 1 else 0

    def _check_numbers(self) -> None:
        if not self.sources or len(set(self.sources)) < len(self.sources):
            raise InvalidArgumentError(f"routine {self.name!r} reads {self.sources}: name each dataset once")
        if self.max_rows_per_run is not None and self.max_rows_per_run < 1:
            raise InvalidArgumentError(f"routine {self.name!r}: max_rows_per_run is at least 1 or None")
        counts = (self.retries, self.backoff, self.max_depth - 1, self.coalesce or 0)
        if min(counts) < 0 or (self.timeout is not None and self.timeout <= 0):
            raise InvalidArgumentError(
                f"routine {self.name!r}: retries, backoff and coalesce are at least 0, max_depth at least 1, "
                "timeout more than 0"
            )
        if self.distributed and self.output is None:
            raise InvalidArgumentError(f"routine {self.name!r} writes no rows, so there is nothing to be distributed")
        if self.on_remade not in ("continue", "replace", "stop"):
            raise InvalidArgumentError(f'routine {self.name!r}: on_remade is "continue", "replace" or "stop"')

    def _check_triggers(self) -> None:
        if not self.triggers:
            raise InvalidArgumentError(
                f"routine {self.name!r} has no trigger; use Manual() for a routine that never starts by itself"
            )
        if self.reads_removed and any(isinstance(trigger, Appended) for trigger in self.triggers):
            raise InvalidArgumentError(
                f"routine {self.name!r} cannot read appended and removed rows both: declare two routines"
            )
        failing = [t for t in self.triggers if isinstance(t, After) and t.outcome == "failure"]
        if failing and (len(self.triggers) > 1 or len(self.sources) > 1):
            raise InvalidArgumentError(
                f"routine {self.name!r}: After(…, 'failure') must be the only trigger, and there is only one source"
            )

    def _check_parameters(self) -> None:
        parameters = inspect.signature(self.fn).parameters.values()
        taking = [p for p in parameters if p.name != "run" and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        needed = sum(parameter.default is parameter.empty for parameter in taking)
        any_number = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
        if needed > len(self.sources) or (len(taking) < len(self.sources) and not any_number):
            raise InvalidArgumentError(
                f"routine {self.name!r} reads {len(self.sources)} dataset(s), but its function takes {len(taking)}; "
                "it takes one Dataset for each, and may have a parameter named run"
            )
