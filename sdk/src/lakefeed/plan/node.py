"""A plan is a tree of frozen nodes; the optimized plan is what runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import pyarrow as pa

from lakefeed._rng import Indices
from lakefeed.storage.cache.blob_cache import CacheStatistics

if TYPE_CHECKING:
    from lakefeed.plan.source import Source


class Input(Protocol):
    """What a node may ask of the rows below it while it runs."""

    def at(self, places: Indices, *, gaps: bool = False) -> Iterator[pa.RecordBatch]:
        """The rows at these places, in that order; with ``gaps``, place -1 gives a row of nulls."""

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows in order, streamed; only these columns."""

    def kept(self) -> Input:
        """The same rows for reading more than once: on local disk if it takes more than reading to make them."""

    def shuffled(self, seed: int, window: int | None, window_bytes: int | None) -> Iterator[pa.RecordBatch]:
        """The rows shuffled: globally, or in windows of so many rows, which end early at so many bytes."""


@dataclass(frozen=True, eq=False, repr=False)
class Node:
    """One operation over the rows of its children (the fields that are nodes, or tuples of nodes).

    The schema is computed at construction, so a mistake surfaces where it was made. Traits are conservative: a wrong
    default costs speed, never rows. Nodes compare by identity; compare plans by
    :func:`lakefeed.plan.fingerprint.fingerprint`. Nodes are picklable as far as what they hold is.
    """

    keeps_row_count: ClassVar[bool] = False
    """Exactly one row out for each row in, in the same place."""
    keeps_order: ClassVar[bool] = False
    """The rows that come out stand in the order in which they came in."""

    @property
    def uses_disk(self) -> bool:
        """Whether running it puts the rows below it on local disk where they are more than memory holds."""
        return False

    deterministic: ClassVar[bool] = True
    """The same rows in give the same rows out."""
    keeps_columns: ClassVar[bool] = False
    """What a column holds comes from the columns of the same name below, and from nothing else."""

    def __post_init__(self) -> None:
        _ = self.schema

    @cached_property
    def schema(self) -> pa.Schema:
        return self.output_schema()

    def output_schema(self) -> pa.Schema:
        """The schema of the rows that come out; raises a typed error if the inputs cannot give them."""
        raise NotImplementedError(type(self).__name__)

    @cached_property
    def children(self) -> tuple[Node, ...]:
        found: list[Node] = []
        for value in self._fields().values():
            found.extend(nodes_of(value))
        return tuple(found)

    @property
    def leaf_source(self) -> Source | None:
        """The source that the node reads, if it is a scan."""
        return None

    def with_children(self, children: Sequence[Node]) -> Self:
        """This node over other children, in field order."""
        replacing = iter(children)
        changes: dict[str, Any] = {}
        for name, value in self._fields().items():
            if isinstance(value, Node):
                changes[name] = next(replacing)
            elif nodes_of(value):
                changes[name] = tuple(next(replacing) for _ in value)
        return dataclasses.replace(self, **changes)

    def over(self, children: Sequence[Node]) -> Self:
        """As `with_children`; this very node where they are the ones that it has."""
        same = all(new is old for new, old in zip(children, self.children, strict=True))
        return self if same else self.with_children(children)

    def narrow(self, wanted: frozenset[str]) -> tuple[Node, frozenset[str] | None]:
        """For a unary node: itself doing only what ``wanted`` output columns need, and the input columns it then reads.

        ``None`` means every input column. The node returned still stands over the old child.
        """
        return self, None

    def narrow_each(self, wanted: frozenset[str]) -> tuple[Node, tuple[frozenset[str] | None, ...]]:
        """As `narrow`, for any number of children."""
        children = self.children
        if len(children) != 1:
            return self, (None,) * len(children)
        narrowed, below = self.narrow(wanted)
        return narrowed, (below,)

    def fields_read(self) -> Iterable[tuple[str | int, ...]] | None:
        """For a unary node whose columns come out as they went in: the paths of those that it looks at itself.

        None: the node does more with its columns, so all of each may be needed.
        """
        return None

    def made_of(self, column: str) -> Sequence[tuple[int, str]] | None:
        """What the values of one of its columns are made of: (which child, which of its columns). None: not known."""
        if not self.keeps_columns:
            return None
        return [(index, column) for index, child in enumerate(self.children) if column in child.schema.names]

    def passes_filter(self, columns: frozenset[str]) -> bool:
        """Whether a filter that reads ``columns`` keeps the same rows, in the same order, below this node.

        With several children: below every one of them.
        """
        return False

    @property
    def passes_limit(self) -> bool:
        """Whether a row range keeps the same rows below this node."""
        return self.keeps_row_count and self.keeps_order

    def execute(self, inputs: Sequence[Input]) -> Iterator[pa.RecordBatch]:
        """The rows, streamed, every batch of exactly ``schema``."""
        raise NotImplementedError(type(self).__name__)

    def describe(self) -> str:
        """One line for ``explain()``."""
        return type(self).__name__

    def identity(self) -> dict[str, Any]:
        """What makes this node's result what it is: its fields but the children; goes into the fingerprint."""
        return {name: value for name, value in self._fields().items() if not nodes_of(value)}

    def _fields(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def __repr__(self) -> str:
        return self.describe()


class Ahead(Protocol):
    """What a step does ahead of its use, within bounds on what is held. For one thread.

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
        """The batch in portions small enough to be held together; one with no rows has none."""

    def room(self, rows: int) -> bool:
        """Whether to begin with so many more rows before those begun are asked for. True where none are begun."""

    def start(self, batch: pa.RecordBatch) -> Callable[[], pa.RecordBatch]:
        """Begins the work on a batch, without waiting. What is returned waits for it and gives what `apply` would.

        It is called once, in the order of the starts. The result counts as held until the next one is asked for.
        """

    def close(self) -> None:
        """Ends what was begun and not asked for."""


@dataclass(frozen=True, eq=False, repr=False)
class Step(Node):
    """A unary node that works batch by batch, so that a run of them is one flat loop over each fragment.

    ``apply`` may look at the place of the batch's first row among the node's input rows (``offset``); a step that does
    is ``positional`` and says by arithmetic how many rows of a range it keeps.
    """

    child: Node

    keeps_order: ClassVar[bool] = True
    positional: ClassVar[bool] = False
    """The result depends on where a row stands in the input."""
    batchwise: ClassVar[bool] = False
    """The result may depend on where the batches were cut."""
    runs_user_code: ClassVar[bool] = False
    """Calls a function that may not expect several threads, so it is called from the consumer's thread only."""

    vectorized: ClassVar[bool] = False
    """Nothing but Arrow kernels on a row's own columns: best done in the thread that decodes."""

    works_ahead: ClassVar[bool] = False
    """`ahead` does better than `apply`: what the step does is waited for rather than computed."""

    def ahead(self, tally: CacheStatistics | None = None) -> Ahead:
        """The step's work for one run through its input rows, begun before it is needed (if it ``works_ahead``)."""
        raise NotImplementedError(type(self).__name__)

    @property
    def row_local(self) -> bool:
        """What comes of a row depends on nothing but that row."""
        return not (self.positional or self.batchwise)

    def apply(self, batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
        raise NotImplementedError(type(self).__name__)

    def kept(self, offset: int, rows: int) -> int:
        """How many of the input rows ``[offset, offset + rows)`` come out (positional steps)."""
        return rows

    def exhausted(self, offset: int) -> bool:
        """Whether no input row from ``offset`` on can come out."""
        return False


def nodes_of(value: object) -> tuple[Node, ...]:
    """The nodes that a field holds: itself, or those of a tuple."""
    if isinstance(value, Node):
        return (value,)
    if isinstance(value, tuple) and value and all(isinstance(item, Node) for item in value):
        return value
    return ()
