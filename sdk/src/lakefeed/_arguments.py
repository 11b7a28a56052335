"""Checks of what callers pass to `Dataset`, so that mistakes surface at the call, and the nodes they ask for."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pyarrow as pa

from lakefeed._rng import fresh_seed
from lakefeed._typing import ColumnTypes, IfExists, LoadFiles, Ragged
from lakefeed.catalog.action import Fence, Provenance
from lakefeed.catalog.categories import with_categories
from lakefeed.catalog.refs import may_be_tag
from lakefeed.catalog.versions import AsOf, Pin
from lakefeed.errors import (
    ColumnNotFoundError,
    InvalidArgumentError,
    MissingDependencyError,
    RowIndexError,
    SchemaError,
    TypeMismatchError,
    UnsavedDatasetError,
    listed,
)
from lakefeed.expr import parse, parse_value
from lakefeed.loaders.batching import Batching
from lakefeed.loaders.world import World
from lakefeed.media import column_type, default_mode, normalize_types, typed_schema
from lakefeed.ops import Filter, FilterRows, Slice, SplitByKey, SplitByPlace, Stride, WithColumn
from lakefeed.ops import LoadFiles as LoadFilesNode
from lakefeed.ops.split import Side
from lakefeed.plan import Node, Source
from lakefeed.run import Local
from lakefeed.run.count import known_rows
from lakefeed.run.save import Writing
from lakefeed.run.shared import job
from lakefeed.sources.files import FilesSource
from lakefeed.sources.files import files as files_source
from lakefeed.sources.memory import checked_nulls
from lakefeed.storage import BlobStore

if TYPE_CHECKING:
    from lakefeed.loaders.torch import TorchLoader

SIDES: tuple[Side, Side] = ("train", "test")
IF_EXISTS = ("error", "append", "new_version")
LOAD_MODES = ("auto", "bytes", "path")
MAX_SEED = 2**63
MAX_PLACE = 2**62
"""Past the end of anything, and still a whole number of 64 bits when two of them are added."""

MAX_SECONDS = 366 * 24 * 3600


def version(given: int | str | None, as_of: dt.datetime | int | None = None) -> Pin | None:
    """A version number, a tag, a time, or None."""
    if as_of is not None:
        if given is not None:
            raise InvalidArgumentError(
                f"version={given!r} and as_of={as_of!r} both say which version is meant: give one"
            )
        return AsOf(moment(as_of))
    if isinstance(given, str) and may_be_tag(given):
        return given
    if given is not None and (isinstance(given, str) or not _is_whole(given) or given < 1):
        raise InvalidArgumentError(
            f"version={given!r}: versions are the whole numbers 1, 2, 3, … or tags; None is the newest"
        )
    return None if given is None else int(given)


def moment(given: dt.datetime | int) -> int:
    """A time in milliseconds since 1970 (UTC)."""
    if isinstance(given, dt.datetime):
        if given.tzinfo is None:
            raise InvalidArgumentError(
                f"as_of={given!r} has no time zone, so which moment is meant cannot be told: give it one, such as "
                "datetime.timezone.utc"
            )
        return math.floor(given.timestamp() * 1000)
    if not _is_whole(given) or given < 0:
        raise InvalidArgumentError(f"as_of={given!r}: give a datetime with a time zone, or milliseconds since 1970")
    return int(given)


def flag(given: Any, what: str) -> bool:
    """True or False."""
    if not isinstance(given, bool):
        raise InvalidArgumentError(f"{what}={given!r}: it is True or False")
    return given


def restored(given: int | str) -> Pin:
    """The version to restore."""
    found = version(given)
    if found is None:
        raise InvalidArgumentError("restore(None): say which version, by number or tag")
    return found


def column(name: str, kind: Any) -> pa.Field[Any]:
    """A column to add: of an Arrow type, or of a media type by name or class."""
    column_name(name, "name")
    if isinstance(kind, pa.DataType):
        return pa.field(name, kind)
    plain = pa.schema([(name, pa.string())])
    (typed,) = typed_schema(plain, normalize_types({name: kind}, plain))
    return typed


def data_type(given: Any) -> pa.DataType:
    """An Arrow type."""
    if not isinstance(given, pa.DataType):
        raise InvalidArgumentError(f"type={given!r:.80}: give a pyarrow type, such as pa.int64()")
    return given


def whole(given: int, what: str) -> int:
    """A count: a whole number from 0 on."""
    if not _is_whole(given) or given < 0:
        raise InvalidArgumentError(f"{what}({given!r}): give a whole number from 0 on")
    return int(given)


def budget(given: int | None) -> int | None:
    """A number of bytes, or None."""
    if given is not None and (not _is_whole(given) or given < 0):
        raise InvalidArgumentError(f"max_bytes={given!r}: give a number of bytes from 0 on, or None for no limit")
    return given


def row_range(start: int, stop: int | None) -> tuple[int, int | None]:
    """A range of rows that does not run backwards."""
    whole(start, "slice")
    if stop is not None and whole(stop, "slice") < start:
        raise InvalidArgumentError(f"slice({start}, {stop}): stop lies before start")
    return min(int(start), MAX_PLACE), None if stop is None else min(int(stop), MAX_PLACE)


def seed(given: int) -> int:
    """A seed."""
    if not _is_whole(given) or not -MAX_SEED <= given < MAX_SEED:
        raise InvalidArgumentError(f"seed={given!r}: a seed is a whole number of 64 bits")
    return int(given)


def chosen_seed(given: int | None) -> int:
    """A seed, or where none is given one that is drawn now."""
    return fresh_seed() if given is None else seed(given)


def window(given: int) -> int:
    """A shuffle window in rows."""
    if not _is_whole(given) or given < 1:
        raise InvalidArgumentError(f"window={given!r}: a shuffle window is a number of rows from 1 on")
    return int(given)


def function(given: Any, what: str) -> Any:
    """Something that can be called."""
    if not callable(given):
        raise InvalidArgumentError(
            f"{what} needs a function{' or an expression' if what == 'filter' else ''}, not {given!r:.80}"
        )
    return given


def schema(given: pa.Schema) -> pa.Schema:
    """A pyarrow schema with names that differ."""
    if not isinstance(given, pa.Schema):
        raise TypeMismatchError(f"schema={given!r:.80}: give a pyarrow.Schema, such as pa.schema({{'x': pa.int64()}})")
    twice = sorted(name for name, times in Counter(given.names).items() if times > 1)
    if not given.names:
        raise SchemaError("a dataset needs at least one column, and the schema has none")
    if twice:
        raise SchemaError(f"schema: column names must differ; {listed(twice)} occur more than once")
    return given


def maybe_schema(given: Any) -> pa.Schema | None:
    """A pyarrow schema with names that differ, or None."""
    return None if given is None else schema(given)


def table(given: pa.Table | pa.RecordBatch) -> pa.Table:
    """An Arrow table."""
    if isinstance(given, pa.RecordBatch):
        given = pa.Table.from_batches([given])
    if not isinstance(given, pa.Table):
        raise TypeMismatchError(f"from_arrow takes a pyarrow Table or RecordBatch, not a {type(given).__name__}")
    schema(given.schema)
    return with_categories(checked_nulls(given, "from_arrow"))


def files(location: Any, of: pa.Schema | None, form: Any, null_values: Any) -> FilesSource:
    """The files at paths, globs or URLs."""
    return files_source(locations(location), maybe_schema(of), form, words(null_values))


def words(given: Any) -> list[str] | None:
    """The texts that are null in CSV."""
    if given is None:
        return None
    if not isinstance(given, list | tuple | set | frozenset) or not all(isinstance(word, str) for word in given):
        raise InvalidArgumentError(f'null_values= takes a list of texts, such as ["", "NA"], not {given!r:.80}')
    return sorted(given) if isinstance(given, set | frozenset) else list(given)


def locations(given: Any) -> list[str]:
    """Paths, globs or URLs."""
    one = isinstance(given, str | os.PathLike)
    many = [given] if one else given
    if not isinstance(many, Sequence) or not all(isinstance(item, str | os.PathLike) for item in many):
        raise InvalidArgumentError(f"from_file takes a path or URL, or a list of them, not {given!r:.80}")
    return [os.fspath(item) for item in many]


def columns(given: Any) -> tuple[str, ...]:
    """Column names."""
    names = () if isinstance(given, str) else _names(given)
    if not names:
        raise InvalidArgumentError(f"select takes a list of column names, at least one, not {given!r:.80}")
    return names


def _names(given: Any) -> tuple[str, ...]:
    """The names in a list of them, or the only one; nothing where it is neither."""
    named = (given,) if isinstance(given, str) else tuple(given) if _is_list(given) else ()
    return named if all(isinstance(name, str) for name in named) else ()


def _is_list(given: Any) -> bool:
    """Whether it is several things, one after the other: not text, whose items are text again, nor a mapping."""
    return isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping | pa.Schema | type)


def indices(given: Any, rows: int | None) -> tuple[int, ...]:
    """Places of rows; checked against the number of rows where that is known."""
    items = list(given) if _is_list(given) else None
    if items is None or not all(map(_is_whole, items)):
        raise InvalidArgumentError(f"take needs a list of whole numbers, not {given!r:.80}")
    places = tuple(int(item) for item in items)
    outside = [place for place in places if place < 0 or (rows is not None and place >= rows)]
    if outside:
        there = "places count from 0" if rows is None else f"there are {rows} rows, and places count from 0"
        raise RowIndexError(f"take: there is no row {outside[0]}; {there}")
    return places


def places(given: Any, rows: int) -> Any:
    """The places that an index, a slice or several indices name."""
    if isinstance(given, slice):
        return range(rows)[given]
    found = np.atleast_1d(np.asarray(given))
    if not (found.ndim == 1 and (found.dtype.kind in "iu" or not found.size)):
        raise InvalidArgumentError(f"dataset[{given!r:.80}]: give a place, a slice, or a list of places")
    return found


def is_place(given: Any) -> bool:
    """Whether one place is given, not a slice or several."""
    return not isinstance(given, slice) and np.ndim(given) == 0


def combined(given: Any, what: str) -> tuple[Node, ...]:
    """The plans of several datasets."""
    datasets = list(given) if _is_list(given) else []
    if not datasets or not all(map(_is_dataset, datasets)):
        raise InvalidArgumentError(f"{what} takes a list of at least one Dataset, not {given!r:.80}")
    return tuple(each._plan for each in datasets)


def _is_dataset(given: Any) -> bool:
    return hasattr(given, "_plan") and not isinstance(given, type)


def chances(given: Any) -> tuple[float, ...]:
    """Probabilities."""
    items: list[Any] = list(given) if _is_list(given) else [None]
    if not all(isinstance(item, int | float) and not isinstance(item, bool) for item in items):
        raise InvalidArgumentError(f"probabilities={given!r:.80}: give one number for each dataset")
    return tuple(map(float, items))


def keys(given: Any) -> tuple[str, ...]:
    """Join keys."""
    named = _names(given)
    if not named:
        raise InvalidArgumentError(f"keys={given!r:.80}: give the name of a column, or a list of names")
    return named


def other(given: Any, what: str) -> Node:
    """The plan of another dataset."""
    if not _is_dataset(given):
        raise InvalidArgumentError(f"{what} takes a Dataset, not {given!r:.80}")
    plan: Node = given._plan
    return plan


def renames(plan: Node, given: Any) -> tuple[tuple[str, str], ...]:
    """Old and new names of columns that are there."""
    good = isinstance(given, Mapping) and all(isinstance(name, str) for pair in given.items() for name in pair)
    if not good or not all(given.values()):
        raise InvalidArgumentError(f"rename takes a mapping of old to new names, not {given!r:.80}")
    known = frozenset(plan.schema.names)
    missing = [name for name in given if name not in known]
    if missing:
        raise ColumnNotFoundError.of(missing, plan.schema.names)
    return tuple(given.items())


def remaining(plan: Node, dropped: Any) -> tuple[str, ...]:
    """The columns that are left when some are dropped."""
    names = _names(dropped)
    if not names and not (_is_list(dropped) and not list(dropped)):
        raise InvalidArgumentError(f"drop takes a column name or a list of them, not {dropped!r:.80}")
    known, gone = frozenset(plan.schema.names), frozenset(names)
    missing = [name for name in names if name not in known]
    if missing:
        raise ColumnNotFoundError.of(missing, plan.schema.names)
    left = tuple(name for name in plan.schema.names if name not in gone)
    if not left:
        raise InvalidArgumentError(f"drop({list(names)!r:.80}) would leave no column")
    return left


def shard(plan: Node, index: int, count: int) -> Node:
    """The node of one of ``count`` contiguous shards, whose sizes differ by at most one row."""
    if not _is_whole(count) or count < 1 or not _is_whole(index) or not 0 <= index < count:
        raise InvalidArgumentError(f"shard({index!r}, {count!r}): index must be in range(count), count at least 1")
    rows = known_rows(plan)
    if rows is None:
        return Stride(plan, int(index), int(count))
    return Slice(plan, rows * index // count, rows * (index + 1) // count)


def tables(plan: Node, table_name: Any, others: Any) -> tuple[tuple[str, ...], tuple[Node, ...]]:
    """The names and plans that a query sees."""
    more = {} if others is None else others
    named = isinstance(more, Mapping) and all(isinstance(name, str) and name.isidentifier() for name in more)
    if not named or not isinstance(table_name, str) or not table_name.isidentifier():
        raise InvalidArgumentError(
            f"table_name={table_name!r:.80}, tables={others!r:.80}: a table needs a plain name; tables= is a mapping "
            "of names to datasets"
        )
    plans = {table_name: plan, **{name: other(each, f"sql(tables={name!r})") for name, each in more.items()}}
    folded = [name.lower() for name in plans]
    if len(set(folded)) < len(folded) or table_name in more:
        raise InvalidArgumentError(f"the tables {listed(plans)} need names that differ in more than case")
    return tuple(plans), tuple(plans.values())


def sort_keys(by: Any, descending: Any) -> tuple[tuple[str, ...], tuple[bool, ...]]:
    """Columns to sort by, and for each whether the largest comes first."""
    names = () if isinstance(by, set | frozenset) else _names(by)
    if not names:
        raise InvalidArgumentError(f"sort takes a column name or a list of them, not {by!r:.80}")
    given = (descending,) * len(names) if isinstance(descending, bool) else descending
    if not isinstance(given, Sequence) or not all(isinstance(down, bool) for down in given):
        raise InvalidArgumentError(f"sort(descending={descending!r:.80}): give True or False, or one for each column")
    return names, tuple(given)


def folder(path: Any, where: str) -> str | os.PathLike[str] | None:
    """The path of a folder, or None."""
    if path is not None and (not isinstance(path, str | os.PathLike) or "\0" in os.fspath(path) or not os.fspath(path)):
        raise InvalidArgumentError(f"{where}(path={path!r:.80}): give the path of a folder, or None")
    return path


def caching(path: Any, load_files: Any, overwrite: Any) -> dict[str, bool]:
    """The switches of ``cache``."""
    folder(path, "cache")
    if not isinstance(load_files, bool) or not isinstance(overwrite, bool):
        raise InvalidArgumentError(f"cache(load_files={load_files!r}, overwrite={overwrite!r}): they are True or False")
    if overwrite and path is None:
        raise InvalidArgumentError("cache(overwrite=True) is for path=: the mirror of a snapshot never gets stale")
    return {"load_files": load_files, "overwrite": overwrite}


def batch(size: Any, drop_last: Any) -> tuple[int, bool]:
    """How many rows become one, and whether the rest is dropped."""
    if not _is_whole(size) or size < 1:
        raise InvalidArgumentError(f"batch(size={size!r:.80}): give a number of rows from 1 on")
    return int(size), flag(drop_last, "drop_last")


def batches(size: int | None, form: Any) -> None:
    """Raises unless the arguments of ``batches`` make sense."""
    if size is not None and (not _is_whole(size) or size < 1):
        raise InvalidArgumentError(f"batches(size={size!r}): give a number of rows from 1 on, or None")
    if not isinstance(form, str) or form not in ("dict", "arrow"):
        raise InvalidArgumentError(f'batches(format={form!r}): the formats are "dict" and "arrow"')


def split(plan: Node, test_size: Any, given_seed: int | None, by: str | None) -> dict[Side, Node]:
    """The two sides of a split."""
    if isinstance(test_size, bool) or not isinstance(test_size, int | float) or not 0 < test_size < 1:
        raise InvalidArgumentError(f"test_size={test_size!r}: give a share between 0 and 1, such as 0.2")
    if by is not None and not isinstance(by, str):
        raise InvalidArgumentError(f"by={by!r}: give the name of a key column, or None")
    chosen = 0 if given_seed is None else seed(given_seed)
    if by is not None:
        return {side: SplitByKey(plan, by, chosen, float(test_size), side) for side in SIDES}
    rows = known_rows(plan)
    return {side: SplitByPlace(plan, rows, chosen, float(test_size), side) for side in SIDES}


def load_files(
    plan: Node,
    store: BlobStore,
    to: LoadFiles,
    only: Sequence[str] | None,
    workers: int,
    on_error: Literal["raise", "null"],
    timeout: float,
    max_bytes: int,
) -> Node | None:
    """The node that loads file columns; None if there is nothing to load."""
    if on_error not in ("raise", "null"):
        raise InvalidArgumentError(f'on_error={on_error!r}: it is "raise" or "null"')
    seconds(timeout, "fetch_timeout")
    for given, what in ((workers, "workers"), (max_bytes, "max_inflight_bytes")):
        if not _is_whole(given) or given < 1:
            raise InvalidArgumentError(f"{what}={given!r:.80}: give a whole number from 1 on")
    modes = _modes(plan.schema, to, only)
    return LoadFilesNode(plan, modes, store, workers, on_error, timeout, max_bytes) if modes else None


def _modes(
    given: pa.Schema, to: LoadFiles, only: Sequence[str] | None
) -> tuple[tuple[str, Literal["bytes", "path"]], ...]:
    media = {field.name: kind for field in given if (kind := column_type(field)) is not None}
    if only is not None and (isinstance(only, str) or not (_names(only) or _is_list(only))):
        raise InvalidArgumentError(f"columns={only!r:.80}: give a list of column names, or None for all file columns")
    named = list(to) if isinstance(to, Mapping) else list(only or [])
    if not all(isinstance(name, str) for name in named):
        raise InvalidArgumentError(f"load_files takes names of columns, not {listed(named)}")
    missing = [name for name in named if name not in given.names]
    if missing:
        raise ColumnNotFoundError.of(missing, given.names)
    plain = [name for name in named if name not in media]
    if plain:
        raise TypeMismatchError(
            f"{listed(plain)} hold no files; the file columns are {listed(media)}. with_column_types() makes one of a "
            "column of paths"
        )
    wanted = dict(to) if isinstance(to, Mapping) else {name: to for name in media if only is None or name in only}
    wrong = {name: mode for name, mode in wanted.items() if not _is_mode(mode)}
    if wrong or not (isinstance(to, Mapping) or _is_mode(to)):
        raise InvalidArgumentError(f'files load as "auto", "bytes", "path", True or False, not as {to!r:.80}')
    chosen = {name: default_mode(media[name]) if is_auto(mode) else mode for name, mode in wanted.items()}
    return tuple((name, mode) for name, mode in chosen.items() if mode in ("bytes", "path"))


def _is_mode(given: Any) -> bool:
    return isinstance(given, bool) or (isinstance(given, str) and given in LOAD_MODES)


def is_auto(given: Any) -> bool:
    """True if files are to become what their type is best used as; ``True`` is another word for "auto", 1 is not."""
    return given is True or (isinstance(given, str) and given == "auto")


def metadata_changes(
    given: pa.Schema, description: str | None, types: ColumnTypes | None, description_key: str, types_key: str
) -> dict[str, str]:
    """The table properties that an ``update`` sets."""
    changes = {} if description is None else {description_key: text(description, "description")}
    if types is not None:
        changes[types_key] = json.dumps(normalize_types(types, given), sort_keys=True)
    return changes


def text(given: Any, what: str) -> str:
    """Text."""
    if not isinstance(given, str):
        raise InvalidArgumentError(f"{what}={given!r:.80}: give text")
    return given


def saved(name: str | None) -> str:
    """The name of a dataset that must have one."""
    if name is None:
        raise UnsavedDatasetError(
            "this dataset is derived from others or was never saved, so it has no name, version or description; "
            "save(name) gives it one, or ask the dataset that it was made from"
        )
    return name


def versions(start: int | str | None, stop: int | str | None) -> tuple[Pin | None, Pin | None]:
    """Both ends of a range of versions."""
    return version(start), version(stop)


def filtered(plan: Node, predicate: Any, store: BlobStore) -> Node:
    """The rows for which an expression, or a function, is true."""
    if isinstance(predicate, str):
        return Filter(plan, parse(predicate, plan.schema))
    return FilterRows(plan, function(predicate, "filter"), store)


def renaming(old: Any, new: Any) -> tuple[str, str]:
    """What a column is called, and what it is to be called."""
    return text(old, "old"), column_name(new, "new")


def with_column(plan: Node, name: Any, value: Any) -> Node:
    """One more column, computed by an expression."""
    return WithColumn(plan, column_name(name, "name"), parse_value(text(value, "value"), plan.schema))


def exact_types(given: ColumnTypes | None) -> ColumnTypes:
    """A mapping of columns to types, which may be empty."""
    if given is None:
        raise InvalidArgumentError("column_types=None: give a mapping of columns to types; {} is none")
    return given


def column_name(given: Any, what: str) -> str:
    """The name of a column that is to be made."""
    if not text(given, what):
        raise InvalidArgumentError(f"{what}={given!r}: a column needs a name")
    return str(given)


def seconds(given: Any, what: str) -> float:
    """A time in seconds, above 0."""
    number = isinstance(given, int | float) and not isinstance(given, bool)
    if not number or not 0 < given <= MAX_SECONDS:
        raise InvalidArgumentError(f"{what}={given!r:.80}: give seconds, above 0 and up to {MAX_SECONDS:,} (a year)")
    return float(given)


def writing(
    copy_files: Any,
    stats: Any,
    provenance: Any,
    idempotency_key: Any,
    fence: Any,
    description: Any = None,
    if_exists: Any = "error",
) -> Writing:
    """What ``save`` and ``append_to`` are told besides the rows."""
    if copy_files != "auto" and not isinstance(copy_files, bool):
        raise InvalidArgumentError(f'copy_files={copy_files!r}: it is "auto", True or False')
    if not isinstance(stats, bool):
        raise InvalidArgumentError(f"stats={stats!r}: it is True or False")
    for given, kind, what in ((provenance, Provenance, "provenance"), (fence, Fence, "fence")):
        if given is not None and not isinstance(given, kind):
            raise InvalidArgumentError(f"{what}={given!r:.80}: give a lakefeed.{kind.__name__}")
    for given, what in ((idempotency_key, "idempotency_key"), (description, "description")):
        if given is not None:
            text(given, what)
    if idempotency_key == "":
        raise InvalidArgumentError(
            "idempotency_key='': an empty key would be shared by all; give one of this action's own"
        )
    if not isinstance(if_exists, str) or if_exists not in IF_EXISTS:
        raise InvalidArgumentError(f'if_exists={if_exists!r:.80}: it is "error", "append" or "new_version"')
    return Writing(copy_files, stats, provenance, idempotency_key, fence, cast("IfExists", if_exists))


def tensors(table: pa.Table) -> dict[str, Any]:
    """The columns as tensors, if PyTorch is there."""
    with _torch("to_tensors"):
        from lakefeed.loaders.whole import table_tensors
    return table_tensors(table)


def torch_source(given: Any, of: pa.Schema | None) -> Source:
    """The rows of a PyTorch dataset."""
    if of is None:
        raise SchemaError("from_torch needs schema=, such as pa.schema({'image': pa.list_(pa.float32(), 784), …})")
    with _torch("from_torch"):
        from lakefeed.sources import torch as sources
    return sources.torch_source(given, schema(of))


@contextmanager
def _torch(what: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingDependencyError(f"{what} needs PyTorch: pip install 'lakefeed[torch]'") from error


def polars_table(given: Any) -> pa.Table:
    """The Arrow table of a polars frame."""
    if type(given).__module__.partition(".")[0] != "polars" or not hasattr(given, "to_arrow"):
        advice = "; collect() a LazyFrame first" if type(given).__name__ == "LazyFrame" else ""
        raise TypeMismatchError(f"from_polars takes a polars DataFrame, not a {type(given).__name__}{advice}")
    objects = [name for name, kind in given.schema.items() if str(kind) == "Object"]
    if objects:
        raise TypeMismatchError(
            f"from_polars: {listed(objects)} hold Python objects, of which polars gives only the addresses; convert "
            "them to text, bytes, numbers or structs first"
        )
    try:
        made: pa.Table = given.to_arrow()
    except pa.ArrowInvalid as error:
        raise TypeMismatchError(
            f"from_polars: a column has a type that Arrow lacks: {error}. The columns are {given.schema}"
        ) from error
    return made


def batching(batch_size: int | None, drop_last: Any, world: Any, rank: int, world_size: int) -> Batching:
    """How an epoch is cut; rank and world size come together or each by itself."""
    if batch_size is not None and (not _is_whole(batch_size) or batch_size < 1):
        raise InvalidArgumentError(
            f"batch_size={batch_size!r}: give a number of rows from 1 on, or None for single rows"
        )
    if world is None:
        return Batching(batch_size, World(rank, world_size), flag(drop_last, "drop_last"))
    if not isinstance(world, World):
        raise InvalidArgumentError(f"world={world!r:.80}: give a World, such as World.from_torch()")
    if (rank, world_size) not in ((0, 1), (world.rank, world.world_size)):
        raise InvalidArgumentError(f"rank={rank!r}, world_size={world_size!r} and world={world!r}: give one of them")
    return Batching(batch_size, world, flag(drop_last, "drop_last"))


def torch_loader(
    plan: Node,
    runner: Local,
    batching: Batching,
    prefetch_batches: int,
    ragged: Ragged,
    infinite: Any,
    options: Mapping[str, Any],
) -> TorchLoader:
    """The loader of ``to_torch``."""
    whole(options["num_workers"], "num_workers")
    whole(prefetch_batches, "prefetch_batches")
    with _torch("to_torch"):
        from lakefeed.loaders.torch import TorchLoader
    from lakefeed.loaders.epochs import Epochs

    endless = flag(infinite, "infinite")
    if batching.world.world_size > 1:
        runner = replace(runner, job=job())
    return TorchLoader(Epochs(plan, runner), batching, prefetch_batches, options, ragged=ragged, infinite=endless)


def _is_whole(given: Any) -> bool:
    return hasattr(given, "__index__") and not isinstance(given, bool)
