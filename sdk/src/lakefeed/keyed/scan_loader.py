"""`ScanLoader`: the batches of a scan for training, with exact checkpoints."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakefeed._validate import check_flag, check_function, check_seed, check_whole
from lakefeed.errors import InvalidArgumentError, StateMismatchError
from lakefeed.keyed.key_ranges import Shard, check_shards
from lakefeed.keyed.shard_text import dump_shards, load_shards
from lakefeed.loaders import torch_entry
from lakefeed.loaders.batch_positions import Batching
from lakefeed.loaders.world import World
from lakefeed.ops import Shuffle
from lakefeed.plan import Node
from lakefeed.run import LocalRunner

if TYPE_CHECKING:
    from lakefeed.keyed.keyed_scan import Scan
    from lakefeed.loaders.metrics import LoaderMetrics

FORMAT = 1
READAHEAD_BATCHES = 2


@dataclass(frozen=True)
class ShuffleConfig:
    """A shuffle of the rows of a scan.

    Attributes:
        seed: the seed.
        buffer_size: the rows of a shard that are mixed at a time; 0 mixes the shards alone.

    Example:
        >>> ShuffleConfig(seed=1)
        ShuffleConfig(seed=1, buffer_size=0)
    """

    seed: int = 42
    buffer_size: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_whole(self.buffer_size, "buffer_size")


class ScanLoader:
    """The batches of a scan for training, as ``pyarrow.RecordBatch``.

    Each iteration is an epoch, in a new order. The order depends on the versions of the tables, the seed and the epoch
    alone. So `state_dict` is exact, and another number of ranks, workers or rows of a batch can continue from it.

    Args:
        scan: the scan.
        shards: read only these parts. None reads all rows.
        shuffle_shards: permute the shards in each epoch.
        seed: the seed of the order.
        skip_samples: leave out so many rows at the beginning, counted over all ranks.
        shuffle_buffer_size: the rows that are mixed at a time, from several shards if these are permuted; 0 keeps the
            order of the key inside shards.
        batch_size: the rows of a batch.
        batch_readahead: the batches that are made ahead.
        transform_fn: a function of a batch; its results are yielded instead.
        map_workers: the processes that call ``transform_fn``; their results come in order. 0 calls it in this thread.
        infinite: start the next epoch without end.
        world: the rank of this process among those that train together. All ranks take the same number of steps, and
            together they see every row once.
        drop_last: leave out the last rows that do not fill a batch on every rank.
        dataloader_kwargs: passed to torch's DataLoader, such as ``multiprocessing_context``.

    Raises:
        MissingDependencyError: PyTorch is not installed.
        InvalidArgumentError: an argument is malformed.

    Example:
        >>> table = Table.create("loaded", key_schema={"id": pa.int64()})
        >>> _ = table.write({"id": [1, 2, 3]})
        >>> loader = table.scan().to_data_loader(batch_size=2)
        >>> [batch["id"].to_pylist() for batch in loader]
        [[1, 2], [3]]
    """

    def __init__(
        self,
        scan: Scan,
        *,
        shards: Sequence[Shard] | None = None,
        shuffle_shards: bool = True,
        seed: int = 42,
        skip_samples: int = 0,
        shuffle_buffer_size: int = 0,
        batch_size: int = 32,
        batch_readahead: int | None = None,
        transform_fn: Callable[[Any], Any] | None = None,
        map_workers: int = 0,
        infinite: bool = False,
        world: World | None = None,
        drop_last: bool = False,
        **dataloader_kwargs: Any,
    ) -> None:
        check_shards(shards)
        self._order = Order(check_seed(seed), shuffle_shards, shuffle_buffer_size)
        self._key_schema, self._shards, self._world = scan.key_schema, shards, world
        if transform_fn is not None:
            dataloader_kwargs["collate_fn"] = check_function(transform_fn, "transform_fn")
        if batch_size is None:
            raise InvalidArgumentError("batch_size must be a number of rows of at least 1, got None")
        self._batching = Batching.of(batch_size, drop_last, world, 0, 1)
        workers = check_whole(map_workers, "map_workers")
        ahead = READAHEAD_BATCHES if batch_readahead is None else check_whole(batch_readahead, "batch_readahead")
        options = {"num_workers": workers, **({"prefetch_factor": ahead} if workers and ahead else {})}
        self._loader = torch_entry.torch_loader(
            self._order.plan(scan.plan_of_shards(shards)),
            LocalRunner(scan.reader.base.lake.settings),
            self._batching,
            ahead,
            "jagged",
            infinite,
            {**options, **dataloader_kwargs},
            arrow=True,
        )
        if check_whole(skip_samples, "skip_samples"):
            self._skip(int(skip_samples))

    @classmethod
    def from_state_dict(cls, scan: Scan, state: Mapping[str, Any], **kwargs: Any) -> ScanLoader:
        """Returns a loader that continues where a state was taken.

        The order, the shards and the rows of a batch are those of the state. A loader of one of several ranks has the
        rank of this process if a launcher (such as torchrun) gave it one, else that of the state.

        Args:
            scan: a scan of the same versions with the same columns.
            state: the result of `state_dict`, of any rank.
            kwargs: arguments of `ScanLoader`. They take precedence over the state.

        Raises:
            StateMismatchError: this is not the state of such a loader, or belongs to other rows or another order.

        Example:
            >>> table = Table.create("continued", key_schema={"id": pa.int64()})
            >>> _ = table.write({"id": [1, 2, 3, 4]})
            >>> loader = table.scan().to_data_loader(batch_size=1)
            >>> _ = next(iter(loader))
            >>> rest = ScanLoader.from_state_dict(table.scan(), loader.state_dict(), batch_size=2)
            >>> [batch["id"].to_pylist() for batch in rest]
            [[2, 3], [4]]
        """
        known = _known(state)
        shards = known.pop("shards")
        known["shards"] = None if shards is None else load_shards(shards)
        known["world"] = _world_of(known["world"]) if kwargs.get("world") is None else kwargs["world"]
        loader = cls(scan, **{**known, **kwargs, "world": known["world"]})
        loader.load_state_dict(state)
        return loader

    def __iter__(self) -> Iterator[Any]:
        """Yields the batches of an epoch, or the results of ``transform_fn``."""
        return iter(self._loader)

    def __repr__(self) -> str:
        return repr(self._loader).replace(type(self._loader).__name__, type(self).__name__, 1)

    def __len__(self) -> int:
        """Returns the number of batches of a whole epoch.

        Raises:
            TypeError: the loader is infinite, or the number of rows is not known without reading them.
        """
        return len(self._loader)

    @property
    def epoch(self) -> int:
        """The epoch that is, or will be, delivered."""
        return self._loader.epoch

    @property
    def metrics(self) -> LoaderMetrics:
        """The batches that were delivered, and the time that the training loop waited for them."""
        return self._loader.metrics

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch to deliver next.

        Args:
            epoch: its number.

        Raises:
            InvalidArgumentError: this is not a whole number of at least 0.
        """
        self._loader.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Returns the position after the received batches, as JSON values."""
        order, batching = self._order, self._batching
        return {
            "scan_loader": FORMAT,
            "seed": order.seed,
            "shuffle_shards": order.shuffle_shards,
            "shuffle_buffer_size": order.buffer_size,
            "batch_size": batching.batch_size,
            "drop_last": batching.drop_last,
            "world": None if self._world is None else [self._world.rank, self._world.world_size],
            "shards": None if self._shards is None else dump_shards(self._shards, self._key_schema),
            "position": self._loader.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where a state was taken: the rows that were not delivered yet.

        Args:
            state: the result of `state_dict` of a loader of the same rows and order, of any rank.

        Raises:
            StateMismatchError: the state belongs to other rows or another order. The message says what changed.
        """
        _known(state)
        self._loader.load_state_dict(state["position"])

    def _skip(self, rows: int) -> None:
        state = self._loader.state_dict()
        if state["rows"] is not None and rows > state["rows"]:
            raise InvalidArgumentError(f"skip_samples={rows}: an epoch has {state['rows']} rows")
        self._loader.load_state_dict({**state, "position": rows})


def distributed_loader(
    scan: Scan, world: Any, shards: Sequence[Shard] | None, arguments: Mapping[str, Any]
) -> ScanLoader:
    """Returns the loader of a rank; see `Scan.to_distributed_data_loader`."""
    world = World.from_torch() if world is None else world
    if shards is None:
        return ScanLoader(scan, world=world, **arguments)
    if not isinstance(world, World):
        raise InvalidArgumentError(f"world must be a World, such as World.from_torch(), got {world!r:.80}")
    check_shards(shards)
    shuffled = arguments.get("shuffle_shards", True)
    return ScanLoader(scan, shards=world.shards(shards, arguments["seed"] if shuffled else None), **arguments)


@dataclass(frozen=True)
class Order:
    """The order of the rows of a loader."""

    seed: int
    shuffle_shards: bool
    buffer_size: int

    def __post_init__(self) -> None:
        check_flag(self.shuffle_shards, "shuffle_shards")
        check_whole(self.buffer_size, "shuffle_buffer_size")

    def plan(self, rows: Node) -> Node:
        """Returns the rows in this order."""
        window = int(self.buffer_size)
        if self.shuffle_shards and window > 1:
            return Shuffle(rows, self.seed, window)
        if self.shuffle_shards:
            return Shuffle(rows, self.seed, 1, arrangement="permuted")
        return Shuffle(rows, self.seed, window, arrangement="in order") if window > 1 else rows


def _known(state: Any) -> dict[str, Any]:
    """Returns the arguments of a loader that a state has.

    Raises:
        StateMismatchError: this is not the state of a loader of a scan.
    """
    names = ("seed", "shards", "shuffle_shards", "shuffle_buffer_size", "batch_size", "drop_last", "world")
    if not isinstance(state, Mapping) or state.get("scan_loader") != FORMAT or not {*names, "position"} <= {*state}:
        raise StateMismatchError(
            f"this is not the state of a loader of a scan, as state_dict() of a ScanLoader returns it: {state!r:.80}"
        )
    return {name: state[name] for name in names}


def _world_of(saved: Any) -> World | None:
    """Returns the rank that a launcher gave to this process, else the saved one; None for a loader without ranks."""
    if saved is None:
        return None
    launched = World.from_torch()
    return launched if launched.world_size > 1 or "WORLD_SIZE" in os.environ else World(*saved)
