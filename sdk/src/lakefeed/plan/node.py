"""A plan is a tree of frozen nodes; the optimized plan is what runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeAlias

import pyarrow as pa

from lakefeed._rng import Indices
from lakefeed.errors import LakefeedError
from lakefeed.storage.cache.blob_cache import CacheStatistics

if TYPE_CHECKING:
    from lakefeed.plan.order import Arrangement
    from lakefeed.plan.source import Source

Failure: TypeAlias = tuple[int, LakefeedError]
"""A row of a batch that a step left out, by its index there, and the error."""


class Input(Protocol):
    """The rows below a node while it runs."""

    def at(self, places: Indices, *, gaps: bool = False) -> Iterator[pa.RecordBatch]:
        """Returns the rows at these positions, in that order. With ``gaps``, position -1 gives a row of nulls."""

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Streams the rows in order, with only these columns."""

    def reusable(self) -> Input:
        """Returns the same rows for reading more than once: on local disk where making them takes more than reading."""

    def shuffled(
        self, seed: int, window: int | None, window_bytes: int | None, arrangement: Arrangement = "mixed"
    ) -> Iterator[pa.RecordBatch]:
        """Returns the rows shuffled: globally, or in windows of so many rows that end early at so many bytes."""


@dataclass(frozen=True, eq=False, repr=False)
class Node:
    """One operation over the rows of its children (the fields that are nodes, or tuples of nodes).

    The schema is computed at construction, so a mistake surfaces where it was made. Traits are conservative: a wrong
    default costs speed, never rows. Nodes compare by identity; compare plans by
    :func:`lakefeed.plan.fingerprint.fingerprint`. A node is picklable if its fields are.
    """

    keeps_row_count: ClassVar[bool] = False
    """Each input row gives exactly one output row at the same position."""
    keeps_order: ClassVar[bool] = False
    """The output rows have the order of the input rows."""

    @property
    def uses_disk(self) -> bool:
        """True if running the node puts the rows below it on local disk where they exceed the memory budget."""
        return False

    deterministic: ClassVar[bool] = True
    """Equal input rows give equal output rows."""
    keeps_columns: ClassVar[bool] = False
    """The values of a column come only from the columns of the same name below."""

    def __post_init__(self) -> None:
        _ = self.schema

    @cached_property
    def schema(self) -> pa.Schema:
        return self.output_schema()

    def output_schema(self) -> pa.Schema:
        """Returns the schema of the output rows. Raises a typed error if the inputs do not fit."""
        raise NotImplementedError(type(self).__name__)

    @cached_property
    def children(self) -> tuple[Node, ...]:
        children: list[Node] = []
        for value in self._fields().values():
            children.extend(nodes_of(value))
        return tuple(children)

    @property
    def leaf_source(self) -> Source | None:
        """The source that the node reads if it is a scan, else None."""
        return None

    def with_children(self, children: Sequence[Node]) -> Self:
        """Returns this node over other children, in field order."""
        replacing = iter(children)
        changes: dict[str, Any] = {}
        for name, value in self._fields().items():
            if isinstance(value, Node):
                changes[name] = next(replacing)
            elif nodes_of(value):
                changes[name] = tuple(next(replacing) for _ in value)
        return dataclasses.replace(self, **changes)

    def over(self, children: Sequence[Node]) -> Self:
        """Does as `with_children`, but returns this node if these are its children."""
        same = all(new is old for new, old in zip(children, self.children, strict=True))
        return self if same else self.with_children(children)

    def narrow(self, wanted: frozenset[str]) -> tuple[Node, frozenset[str] | None]:
        """Returns, for a unary node, the node that computes only ``wanted`` columns, and the columns that it reads.

        ``None`` means every input column. The returned node has the old child.
        """
        return self, None

    def narrow_each(self, wanted: frozenset[str]) -> tuple[Node, tuple[frozenset[str] | None, ...]]:
        """Does as `narrow`, for any number of children."""
        children = self.children
        if len(children) != 1:
            return self, (None,) * len(children)
        narrowed, below = self.narrow(wanted)
        return narrowed, (below,)

    def fields_read(self) -> Iterable[tuple[str | int, ...]] | None:
        """Returns, for a unary node that passes its columns on unchanged, the paths that it reads itself.

        None: the node does more with its columns, so every path of each may be needed.
        """
        return None

    def made_of(self, column: str) -> Sequence[tuple[int, str]] | None:
        """Returns the origins of a column as (index of the child, column of that child). None: unknown."""
        if not self.keeps_columns:
            return None
        return [(index, column) for index, child in enumerate(self.children) if column in child.schema.names]

    def passes_filter(self, columns: frozenset[str]) -> bool:
        """Returns whether a filter on ``columns`` keeps the same rows, in the same order, below this node.

        With several children, below each of them.
        """
        return False

    @property
    def passes_limit(self) -> bool:
        """True if a row range keeps the same rows below this node."""
        return self.keeps_row_count and self.keeps_order

    def execute(self, inputs: Sequence[Input]) -> Iterator[pa.RecordBatch]:
        """Streams the rows. Every batch has exactly ``schema``."""
        raise NotImplementedError(type(self).__name__)

    def describe(self) -> str:
        """Returns one line for ``explain()``."""
        return type(self).__name__

    def identity(self) -> dict[str, Any]:
        """Returns the arguments that determine the result, without the children. They are part of the fingerprint."""
        return {name: value for name, value in self._fields().items() if not nodes_of(value)}

    def _fields(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def __repr__(self) -> str:
        return self.describe()


class Ahead(Protocol):
    """The work of a step ahead of its use, with a bound on its memory. For one thread.

    ``run/step_chain.py`` drives it. A loader has batches of its own size and uses `lakefeed.run.step_chain.run_whole`::

        with closing(step.ahead(tally)) as ahead:
            waiting = deque()
            for batch in batches:
                while waiting and not ahead.room(batch.num_rows):
                    yield waiting.popleft()()
                waiting.append(ahead.start(batch))
            while waiting:
                yield waiting.popleft()()
    """

    def portions(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Yields the batch in parts that are small enough to be held together; a batch without rows has none."""

    def room(self, rows: int) -> bool:
        """Returns whether so many more rows may be started before started ones are taken. True where none are."""

    def start(self, batch: pa.RecordBatch, offset: int = 0) -> Callable[[], pa.RecordBatch]:
        """Starts the work on a batch without waiting. Returns a function that waits for it and returns the batch.

        ``offset`` as for `Step.apply`. Call these functions once each, in the order of the starts. A result counts as
        held until the next call.
        """

    @property
    def failures(self) -> list[Failure]:
        """The rows that the batch that was returned last leaves out, for a step that ``skips_rows``."""

    def close(self) -> None:
        """Cancels the work whose results were not taken."""


@dataclass(frozen=True, eq=False, repr=False)
class Step(Node):
    """A unary node that works batch by batch, so that a run of them is one flat loop over each fragment.

    ``apply`` may use ``offset``, the position of the batch's first row among the input rows. Such a step is
    ``positional`` and computes how many rows of a range it keeps.
    """

    child: Node

    keeps_order: ClassVar[bool] = True
    positional: ClassVar[bool] = False
    """The result depends on the position of a row in the input."""
    batchwise: ClassVar[bool] = False
    """The result may depend on the boundaries of the batches."""
    runs_user_code: ClassVar[bool] = False
    """Calls a function of the user, which may not be thread-safe, from the thread of the consumer only."""

    vectorized: ClassVar[bool] = False
    """Runs only Arrow kernels on the columns of a row, so it is best done in the thread that decodes."""

    skips_rows: ClassVar[bool] = False
    """Rows for which the step fails are left out."""

    works_ahead: ClassVar[bool] = False
    """`ahead` is faster than `apply`, because the step mostly waits."""

    def prepare(self) -> None:
        """Imports the modules that the step runs with. A loader calls it before it forks processes that run the step.

        Else each of them would import the modules, in each epoch.
        """

    def ahead(self, tally: CacheStatistics | None = None) -> Ahead:
        """Returns the work ahead for one run over the input rows, for a step that ``works_ahead``."""
        raise NotImplementedError(type(self).__name__)

    @property
    def row_local(self) -> bool:
        """True if the output of a row depends only on that row."""
        return not (self.positional or self.batchwise)

    def apply(self, batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
        raise NotImplementedError(type(self).__name__)

    def skip_failures(self, batch: pa.RecordBatch, offset: int) -> tuple[pa.RecordBatch, list[Failure]]:
        """Does as `apply`, and returns the rows that were left out as well, for a step that ``skips_rows``."""
        raise NotImplementedError(type(self).__name__)

    def count_kept(self, offset: int, rows: int) -> int:
        """Returns how many of the input rows ``[offset, offset + rows)`` a positional step keeps."""
        return rows

    def exhausted(self, offset: int) -> bool:
        """Returns whether the step drops every input row from ``offset`` on."""
        return False


def nodes_of(value: object) -> tuple[Node, ...]:
    """Returns the nodes that the value of a field holds: the value itself, or the items of a tuple."""
    if isinstance(value, Node):
        return (value,)
    if isinstance(value, tuple) and value and all(isinstance(item, Node) for item in value):
        return value
    return ()
