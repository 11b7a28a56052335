"""`Routine`: the declaration of a function, its sources, its output, and how it runs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import pyarrow as pa

from lakefeed._validate import check_column_name, check_flag, is_whole
from lakefeed.catalog import check_name
from lakefeed.dataset import Dataset
from lakefeed.errors import InvalidArgumentError, InvalidNameError
from lakefeed.routines.former_sources import position_key
from lakefeed.routines.triggers import After, Appended, Manual, Removed, Trigger
from lakefeed.run.row_errors import OnRowError

RoutineFn: TypeAlias = Callable[..., Dataset | pa.Table | Iterable[pa.RecordBatch] | None]
Remade: TypeAlias = Literal["continue", "replace", "stop"]

NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
# The log of a routine without an output: its position, and a row for each range that is done.
LOGS = "routine-logs"
LOG_SCHEMA = pa.schema(
    [("source", pa.string()), ("version", pa.int64()), ("rows", pa.int64()), ("token", pa.string())]  # type: ignore[arg-type]
)
MAX_DEPTH = 32


@dataclass(frozen=True)
class RoutineRun:
    """The run that calls a function. A function gets it in a parameter named ``run``.

    Attributes:
        routine: the name of the routine.
        token: a text that is the same whenever the same rows are passed again, so that a side effect that was done
            already can be recognised.
        resources: the objects that the routine requests by name.
        run: the id of the run.
    """

    routine: str
    token: str
    resources: Mapping[str, Any] = field(default_factory=dict)
    run: str | None = None


@dataclass(frozen=True)
class Routine:
    """Calls ``fn`` with the rows appended to ``source``, and appends the rows that it returns to ``output``.

    Args:
        name: lower-case letters, digits, ``_`` and ``-``. The position is stored under it.
        fn: a function that takes one Dataset for each source, in order, and a `RoutineRun` if it has a parameter
            ``run``.
        source: the name of a dataset, or several. With several, their new rows are passed together.
        output: the name of the output dataset. None is for side effects: the function is then called at least once for
            each version, and again if it dies before it returns, always with the same token for the same rows.
        schema: the schema of the output. None takes that of the first run, which must return at least one (empty)
            batch.
        when: the trigger. With several, any of them makes the routine due.
        max_rows_per_run: the most rows of one commit. A larger append is split.
        coalesce: join versions until they have this many rows. None takes the trigger's ``min_rows`` if that is more
            than 1, and otherwise commits each version by itself.
        only_checked: leave out versions that failed a check, and wait for versions that are not checked yet.
        on_remade: the reaction to a source that was deleted and made again. "continue" reads the new rows and keeps the
            results of the old ones. "replace" replaces the whole output. "stop" raises.
        max_depth: leave out rows that passed this many routines. This ends cycles.
        retries: the number of runs after a failed one. The first starts after ``backoff`` seconds; each further wait
            doubles.
        backoff: in seconds.
        timeout: the seconds after which a run is ended.
        pool: the concurrency pool that the routine shares with others.
        resources: the names of the objects that `RoutineRun` passes to the function.
        tags: tags of the runs and of the asset (on the asset only with letters, digits, ``_``, ``.`` and ``-``).
        owners: mail addresses, or ``team:name``.
        distributed: the run's engine makes the rows of the returned Dataset in parts.
        formerly: the name under which the routine made its first commits, if it was renamed. Keep it: the position
            stays under that name.
        beside: the names of other routines that read the same sources and append to the same output.
        on_error: the reaction to a row on which the function raises. "fail" commits the rows before it, and raises.
            "quarantine" records it in the dataset ``<output>_errors`` and goes on with the other rows. "null" does the
            same, and its row of the output has only its key; all other columns are null. The last two need a function
            whose result for a row does not depend on other rows, one source and an output. See `retry_failed`.
        key: the column of the source that names a row in errors. None takes ``id``, ``uuid``, ``key``, or the first
            column that ends in ``_id``.
        max_errors: with more failed rows in one commit, the run fails. None allows any number.
        columns: columns of the output, which is the source and has a key. The rows that the function returns have the
            key and these columns. The values are written beside the rows (`Table.enrich`), so the rows of the source
            stay as they are, and the routine does not read its own commits.
        commit_parts: with ``on_error="fail"``, commit the rows before a row that failed, if the function returned a
            Dataset of operations that work row by row or batch by batch. False commits all rows of a version or none.

    Raises:
        InvalidArgumentError, InvalidNameError: the declaration cannot work.
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
    formerly: str | None = None
    beside: tuple[str, ...] = ()
    on_error: OnRowError = "fail"
    key: str | None = None
    max_errors: int | None = None
    commit_parts: bool = True
    columns: Sequence[str] = ()

    def __post_init__(self) -> None:
        if isinstance(self.beside, str):
            raise InvalidArgumentError(
                f"routine {self.name!r}: beside is a tuple of names, not the text {self.beside!r}"
            )
        for name in (self.name, *([self.formerly] if self.formerly is not None else []), *self.beside):
            if not NAME.fullmatch(str(name)):
                raise InvalidArgumentError(
                    f"{name!r} cannot name a routine: use a-z, 0-9, '_' and '-', starting with a letter"
                )
        for name in (*self.sources, *([self.output] if self.output is not None else [])):
            check_name(name)
        for tag in self.tags.items():
            if not all(isinstance(part, str) for part in tag):
                raise InvalidArgumentError(
                    f"tags of routine {self.name!r} must map text to text, got {tag}; convert a dict with json.dumps"
                )
        self._check_numbers()
        self._check_errors()
        self._check_triggers()
        self._check_parameters()
        self._check_columns()

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the datasets that it reads."""
        return (self.source,) if isinstance(self.source, str) else tuple(self.source)

    @property
    def triggers(self) -> tuple[Trigger, ...]:
        """The triggers that make it due."""
        return self.when if isinstance(self.when, tuple) else (self.when,)

    @property
    def target(self) -> str:
        """The dataset that it writes: the output, or the log of its side effects."""
        return self.output if self.output is not None else f"{LOGS}.{self.stored_name}"

    @property
    def fence(self) -> str:
        """The key under which the position is stored with the target. It may have earlier names of the sources."""
        return position_key(self.stored_name, self.sources, self.target)

    @property
    def stored_name(self) -> str:
        """The name under which the position is stored."""
        return self.name if self.formerly is None else self.formerly

    @property
    def names(self) -> frozenset[str]:
        """The names that its commits may record."""
        return frozenset({self.name, self.stored_name})

    @property
    def errors_dataset(self) -> str:
        """The dataset that shows the rows on which the function raised."""
        return f"{self.target}_errors"

    @property
    def reads_removed(self) -> bool:
        """True if it reads removed rows instead of added rows."""
        return any(isinstance(trigger, Removed) for trigger in self.triggers)

    @property
    def exact(self) -> bool:
        """True if a run reads only the versions that it is started for, and none before them."""
        return all(
            isinstance(each, Manual) or (isinstance(each, After) and each.outcome == "failure")
            for each in self.triggers
        )

    @property
    def together(self) -> int:
        """The number of rows up to which versions are joined; 0 commits each version by itself."""
        if self.output is None or self.columns:  # a token must not depend on what came later; a key has one value
            return 0
        if self.coalesce is not None:
            return self.coalesce
        least = max((t.min_rows for t in self.triggers if isinstance(t, Appended | Removed)), default=1)
        return least if least > 1 else 0

    def _check_numbers(self) -> None:
        if not self.sources or len(set(self.sources)) < len(self.sources):
            raise InvalidArgumentError(f"routine {self.name!r} reads {self.sources}: name each dataset once")
        if self.max_rows_per_run is not None and self.max_rows_per_run < 1:
            raise InvalidArgumentError(
                f"routine {self.name!r}: max_rows_per_run must be at least 1 or None, got {self.max_rows_per_run}"
            )
        counts = (self.retries, self.backoff, self.max_depth - 1, self.coalesce or 0)
        if min(counts) < 0 or (self.timeout is not None and self.timeout <= 0):
            raise InvalidArgumentError(
                f"routine {self.name!r}: retries, backoff and coalesce must be at least 0, max_depth at least 1, "
                "and timeout more than 0"
            )
        if self.distributed and self.output is None:
            raise InvalidArgumentError(f"routine {self.name!r} has no output, so it cannot be distributed")
        if self.on_remade not in ("continue", "replace", "stop"):
            raise InvalidArgumentError(
                f'routine {self.name!r}: on_remade must be "continue", "replace" or "stop", got {self.on_remade!r}'
            )

    def _check_errors(self) -> None:
        if str(self.on_error) not in get_args(OnRowError):
            raise InvalidArgumentError(
                f'routine {self.name!r}: on_error must be "fail", "quarantine" or "null", got {self.on_error!r:.80}'
            )
        if self.key is not None:
            check_column_name(self.key, "key")
        check_flag(self.commit_parts, "commit_parts")
        if self.max_errors is not None and (not is_whole(self.max_errors) or self.max_errors < 0):
            raise InvalidArgumentError(
                f"routine {self.name!r}: max_errors must be a whole number from 0 or None, got {self.max_errors!r:.80}"
            )
        if self.on_error == "fail":
            return
        if self.output is None or len(self.sources) > 1:
            lack = "no output" if self.output is None else f"{len(self.sources)} sources"
            raise InvalidArgumentError(
                f"routine {self.name!r} has {lack}, so its rows cannot fail one by one: on_error={self.on_error!r} "
                "needs one source and an output"
            )
        try:
            check_name(self.errors_dataset)
        except InvalidNameError as error:
            raise InvalidNameError(
                f"routine {self.name!r}: its failed rows would go to {self.errors_dataset!r}, but a name has at most "
                "63 characters; choose a shorter name for the output"
            ) from error

    def _check_columns(self) -> None:
        if not isinstance(self.columns, list | tuple) or not all(
            isinstance(each, str) and each for each in self.columns
        ):
            raise InvalidArgumentError(
                f"routine {self.name!r}: columns is a list of names of columns, not {self.columns!r:.80}"
            )
        if not self.columns:
            return
        if self.sources != (self.output,) or self.reads_removed or self.distributed:
            raise InvalidArgumentError(
                f"routine {self.name!r} derives columns, so it reads the rows that are added to one dataset, writes to "
                f"the same one, and is not distributed; it reads {list(self.sources)} and writes {self.output!r}"
            )
        if self.on_error == "null" or self.coalesce is not None:
            raise InvalidArgumentError(
                f"routine {self.name!r} derives columns: they are null for failed rows also with "
                'on_error="quarantine", and versions are read one by one, without coalesce'
            )

    def _check_triggers(self) -> None:
        if not self.triggers:
            raise InvalidArgumentError(
                f"routine {self.name!r} has no trigger; use Manual() for a routine that never starts by itself"
            )
        if self.reads_removed and any(isinstance(trigger, Appended) for trigger in self.triggers):
            raise InvalidArgumentError(
                f"routine {self.name!r} cannot read both appended and removed rows: declare two routines"
            )
        failing = [t for t in self.triggers if isinstance(t, After) and t.outcome == "failure"]
        if failing and (len(self.triggers) > 1 or len(self.sources) > 1):
            raise InvalidArgumentError(
                f"routine {self.name!r}: After(…, 'failure') must be the only trigger, and allows only one source"
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
