"""Bad input at every public call: a typed error at the call that names the culprit, and nothing is left behind.

What is public is read from the package, so that a new method or argument without an entry here fails.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import inspect
import math
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

import lakefeed
from lakefeed import (
    AddedRows,
    Changes,
    Dataset,
    DatasetVersion,
    Fence,
    FileTree,
    GarbageReport,
    Lineage,
    MappedCells,
    Provenance,
    RemovedRows,
    Run,
    SchemaChanges,
    Settings,
    Table,
    Term,
    World,
    col,
    collect_garbage,
    compute,
    concatenate,
    connect,
    errors,
    fetch,
    get_dataset,
    interleave,
    lineage,
    list_datasets,
    lit,
    map_anndata,
    sparse_field,
    track,
    udf,
)
from lakefeed.compute import Processes
from lakefeed.errors import InvalidArgumentError, LakefeedError
from lakefeed.loaders.torch_loader import TorchLoader
from lakefeed.media.handles import Handle

SCHEMA = pa.schema({"a": pa.int64(), "s": pa.string(), "f": pa.float64()})
ROWS = {"a": [1, 2, 3], "s": ["x", "y", None], "f": [0.5, None, math.inf]}
TWICE = pa.schema([("a", pa.int64()), ("a", pa.string())])


class Odd:
    """Equal to nothing, of no use, and with a repr that is found again."""

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "<odd>"


# Of every type that callers mix up: for text, bytes; for whole numbers, booleans and floats; for a list, its only item.
POOL: tuple[Any, ...] = (
    None, True, -1, 7, 1.5, math.nan, -math.inf, 2**70, "text", "", b"bytes", [], [None], [b"a"], ["a", 7], {}, {7: 7},
    {"a": None}, {"a"}, Odd(), [Odd()], len, Odd, pa.int64(), pa.schema({"a": pa.int64()}), Ellipsis, 1 + 2j,
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """What an argument may be: what of the pool is good, and what else is bad."""

    good: Callable[[Any], bool]
    bad: tuple[Any, ...] = ()

    def wrong(self) -> Iterator[Any]:
        yield from (value for value in POOL if not self.good(value))
        yield from self.bad


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_names(value: Any) -> bool:
    return value == "a" or (isinstance(value, list | tuple | set) and value in (["a"], {"a"}))


def one_of(*values: Any, bad: tuple[Any, ...] = ()) -> Kind:
    return Kind(lambda value: any(value is one or (type(value) is type(one) and value == one) for one in values), bad)


def optional(kind: Kind) -> Kind:
    return Kind(lambda value: value is None or kind.good(value), kind.bad)


BAD_NAMES = (
    "Capital",
    "1st",
    "a" * 64,
    "../up",
    "a.b.c.d",
    "new\nline",
    "with space",
    "ünï",
    "a;drop table b",
    ".a",
    "a.",
)
WHOLE = Kind(lambda value: is_whole(value) and value >= 0, (-(2**70),))
COUNT = Kind(lambda value: is_whole(value) and value >= 1, (0,))
SEED = Kind(lambda value: value is None or (is_whole(value) and -(2**63) <= value < 2**63), (2**63, "42"))
FLAG = Kind(lambda value: isinstance(value, bool), (0, 1, "true", "no"))
TEXT = Kind(lambda value: isinstance(value, str))
FILLED_TEXT = Kind(lambda value: isinstance(value, str) and value != "")
LITERAL = Kind(
    lambda value: value is None or isinstance(value, bool | int | str | bytes) or value == 1.5,
    (dt.timedelta(1), math.inf),
)
VALUES = Kind(lambda value: value in ([], [None], ["a", 7], {"a"}, [b"a"]), ([math.nan], [[1]]))
NEW_NAME = Kind(lambda value: value == "text", BAD_NAMES)
THERE = Kind(lambda value: False, ("ther", "there2", *BAD_NAMES))
FREE = Kind(lambda value: value == "text", ("there", *BAD_NAMES))
VERSION = Kind(lambda value: value is None or (is_whole(value) and value == 1), (0, 99, "v1", "gone", "main"))
LATER_VERSION = Kind(lambda value: value is None or value == "text" or COUNT.good(value), (0, "v1"))
COLUMN = Kind(lambda value: value == "a", ("aa", "A", "a ", "nope"))
COLUMNS = Kind(is_names, ("aa", ["a", "aa"], ["A"]))
DROPPED = Kind(lambda value: value == [] or is_names(value), (*COLUMNS.bad, ["a", "s", "f", "img"]))
LOADED = Kind(lambda value: value is None or value == [], ("img", ["imgg"], ["s"]))
NAMES = Kind(lambda value: is_names(value) and value != "a", ("a", ["a", "aa"], ["A"], ["a", "a"]))
TYPES = Kind(lambda value: value == {}, ({"aa": "image"}, {"s": "picture"}, {"s": Dataset}, {"a": "image"}, {"s": 1}))
AUTO_TYPES = Kind(lambda value: value == {}, (*TYPES.bad, "image"))
SCHEMAS = Kind(lambda value: isinstance(value, pa.Schema), (pa.schema([]), TWICE, {"a": pa.int64()}))
LOAD = one_of(
    "auto", "bytes", "path", True, False, {}, bad=("byte", 0, 1, {"s": "bytes"}, {"img": "byte"}, {"imgg": "path"})
)
FUNCTION = Kind(callable)
SECONDS = Kind(lambda value: value == 7 or value == 1.5, (0, -0.5, math.inf, "30"))
SPAN = Kind(lambda value: False, (dt.timedelta(-1), 60, "1d"))
SPACE = Kind(lambda value: is_whole(value) and value >= 1, (0,))
PROVENANCE = Kind(lambda value: value is None, ("me", {"run": "r"}, Provenance))
FENCE = Kind(lambda value: value is None, ("key", ("key", None, "1"), Fence))
WORLD = Kind(lambda value: value is None, (World, (0, 1), {"rank": 0}))
IMPOSSIBLE = ("nul\0byte", "half\ud800pair", "long" * 100, "pic.bin/below", "loop")
"""Paths at which nothing can be, so that nothing is read or written there. ``loop`` is a link to itself."""
FOLDER = Kind(lambda value: value is None or value == "text", IMPOSSIBLE)

# What an argument of that name is everywhere, if a call does not say otherwise.
USUAL: dict[str, Kind] = {
    "seed": SEED,
    "schema": optional(SCHEMAS),
    "provenance": PROVENANCE,
    "fence": FENCE,
    "idempotency_key": Kind(lambda value: value is None or value == "text"),
    "copy_files": one_of("auto", True, False, bad=("all", 0, 1)),
    "stats": FLAG,
    "load_files": LOAD,
    "drop_last": FLAG,
    "from_version": VERSION,
    "to_version": VERSION,
    "version": VERSION,
    "as_of": Kind(lambda value: value is None or (is_whole(value) and value >= 0), ("2024-01-01", 7.0)),
    "description": optional(TEXT),
    "fill": FLAG,
    "warn": FLAG,
    "overwrite": FLAG,
    "force": FLAG,
    "if_exists": one_of("error", "append", "new_version", bad=("replace", "Append", "new version")),
}


@dataclass(frozen=True)
class Call:
    """A call that is good, and what each of its arguments may be."""

    what: Callable[..., Any]
    good: Mapping[str, Any] = field(default_factory=dict)
    kinds: Mapping[str, Kind] = field(default_factory=dict)

    def kind(self, name: str) -> Kind | None:
        return self.kinds.get(name) or USUAL.get(name)

    def arguments(self) -> list[str]:
        passed = inspect.signature(self.what).parameters.values()
        return [one.name for one in passed if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]


def same(row: Any) -> Any:
    return row


def of(method: str, good: Mapping[str, Any] | None = None, /, **kinds: Kind) -> Call:
    """A method of a saved dataset."""

    def bound(*args: Any, **kwargs: Any) -> Any:
        return getattr(subject(), method)(*args, **kwargs)

    bound.__signature__ = inspect.signature(getattr(Dataset("there"), method))  # type: ignore[attr-defined]
    return Call(bound, good or {}, kinds)


def computed(function: Callable[..., Any], good: Mapping[str, Any], **kinds: Kind) -> Call:
    """A write of `lakefeed.compute`, of a saved dataset."""

    def bound(**given: Any) -> Any:
        return function(**{"rows": subject(), "engine": Processes(1), **given})

    bound.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return Call(bound, good, {"rows": OTHER, "engine": ENGINE, **kinds})


def subject() -> Dataset:
    return Dataset("there")


def loader() -> Any:
    return subject().to_torch(batch_size=2)


def tree_call(method: str, good: Mapping[str, Any] | None = None, /, final: bool = False, **kinds: Kind) -> Call:
    """A method of a draft of a file tree, or of a version."""

    def bound(*args: Any, **kwargs: Any) -> Any:
        return getattr(TREES[final], method)(*args, **kwargs)

    bound.__signature__ = inspect.signature(getattr(FileTree.__new__(FileTree), method))  # type: ignore[attr-defined]
    return Call(bound, good or {}, {**TREE_KINDS, **kinds})


TREES: dict[bool, FileTree] = {}
"""A version of a file tree by True, and a draft of its next version by False."""

TITLE = Kind(lambda value: value == "text", ("a\nb", "a\0", "a" * 2_000))
TAGS = Kind(lambda value: value is None or value in ("text", []) or value == {"a"}, ([""], ["a\n"]))
TREE_ID = Kind(lambda value: value is None, ("photos", "p.tree@", "p.tree@v99", "p.tree@0123456789ab", "a.b.c@v1"))
LOCAL = Kind(lambda value: value == "text", ("gone", Path("gone"), *IMPOSSIBLE))
IN_TREE = Kind(lambda value: value is None or value in ("text", ""), ("..", "a/../b", "a\nb"))
PATTERNS = Kind(lambda value: value in (None, "text") or value == {"a"}, ("", "..", ["a", ""]))
FOREIGN_ID = Kind(lambda value: value is None, ("photos", "p.tree@", "a.b.c@v1"))
STORE = Kind(lambda value: value is None or value is True, ("s3://elsewhere/blobs",))
WORKERS = Kind(lambda value: value is None or COUNT.good(value), (0,))
SIGNAL = Kind(lambda value: value is None or isinstance(value, bool), (0, 1, "true"))
TREE_KINDS = {
    "dataset_id": TREE_ID, "dataset_project": TITLE, "dataset_name": TITLE, "dataset_tags": TAGS,
    "dataset_version": optional(TITLE), "wildcard": PATTERNS, "dataset_path": IN_TREE, "recursive": FLAG,
    "verbose": FLAG, "output_url": STORE, "output_uri": STORE, "max_workers": WORKERS, "raise_on_error": FLAG,
    "part": Kind(lambda value: False, (2, 1.0, "0")), "files": PATTERNS, "tags": TAGS,
    "num_parts": Kind(lambda value: is_whole(value) and value == 7, (0,)),
}  # fmt: skip


ENGINE = Kind(lambda value: False, (Processes, 2, "dask"))
WRITE = {"name": "text"}
CHANGE = {"name": "there"}
NOT_ROWS = Kind(lambda value: value == [], ({"a": [1]}, [1], [["a"]], [{"a": 1}, {"a": "x"}], [{7: 1}]))
FRAME = Kind(lambda value: False, (pa.table({"a": [1]}), pl.DataFrame({"a": [1]})))
POLARS = Kind(lambda value: False, (pa.table({"a": [1]}), pd.DataFrame({"a": [1]}), pl.LazyFrame({"a": [1]})))
TABLE = Kind(lambda value: False, (pd.DataFrame({"a": [1]}), pa.array([1]), pa.table([[1], [2]], names=["a", "a"])))
TABLES = Kind(lambda value: value is None or value == {}, ({"b": 1}, {"data": None}, {"a b": None}))
DATASETS = Kind(lambda value: False, ([Dataset], [1], "there", ["there"]))
OTHER = Kind(lambda value: False, ("there", Dataset, pa.table({"a": [1]})))
LOCATIONS = Kind(
    lambda value: False,
    (
        *("gone.csv", "gone-*.csv", "x.unknown", ["gone.csv"], "ftp2://x/y.csv", "half\ud800/*.csv"),
        *(f"{path}.csv" for path in IMPOSSIBLE),
    ),
)
OBS = Kind(lambda value: value is None or isinstance(value, str) or value in ([], {"a"}), (["a", "a"],))
EXPRESSION = Kind(lambda value: False, ("a >", "aa > 1", "a = 'x'", "s > 1", "a; drop", "(" * 500, "a > 1 or", "\0"))
VALUE = Kind(lambda value: False, ("a +", "aa + 1", "s + 1", "\0"))
QUERY = Kind(lambda value: False, ("SELEC 1", "SELECT * FROM gone", "SELECT aa FROM data", "DROP TABLE data", "\0"))
INDICES = Kind(lambda value: value == [], ([-1], [3], [0.5], [True], ["0"], 1, [2**70]))
FACTORY = Kind(callable, (iter([]), pa.table({"a": [1]})))
CHANCES = Kind(
    lambda value: value is None,
    ([0.5], [0.5, 0.6], [-1, 2], [math.nan, 1], ["a", "b"], [True, False], [0, 0], [1e400, 1]),
)
SHARE = Kind(lambda value: False, (0, 1, 0.0, 1.0, "0.2"))
RENAMES = Kind(lambda value: value == {}, ({"aa": "b"}, {"a": ""}, {"a": "s"}, {"a": b"b"}, [("a", "b")], "a"))
SORTED = Kind(lambda value: is_names(value) and value != {"a"}, ("aa", ["a", "aa"], []))
DESCENDING = Kind(lambda value: isinstance(value, bool), ([True, False], [1], "yes"))
ARROW_TYPE = Kind(lambda value: value == pa.int64(), ("int64", pa.string, pa.schema({"a": pa.int64()})))
ADDED_TYPE = Kind(lambda value: isinstance(value, pa.DataType), ("picture", Dataset, int))
STATE = Kind(lambda value: False, ({"format": 1}, "{}", []))
MAKES = {"fn": same, "schema": SCHEMA}

KEY_SCHEMA = Kind(
    lambda value: isinstance(value, pa.Schema), (pa.schema([]), TWICE, {"a": "int64"}, [("a",)], {"a": pa.float64()})
)
ASOF = Kind(
    lambda value: value is None or (is_whole(value) and (value == 1 or value > 10**12)),
    (0, 99, "v1", "gone", dt.datetime(2024, 1, 1)),
)
WRITTEN = Kind(
    lambda value: value == [], ({"a": [1], "s": [7]}, {"s": ["x"]}, [{"a": None}], {"a": [1, 1]}, pa.array([1]))
)
DELETED = Kind(lambda value: value == [], ({"s": ["x"]}, {"a": ["x"]}, ["x"], [None], [1.5]))
PATHS = Kind(lambda value: False, ("s", ["s", "ss"], ["a"], ["s.t"]))
PROJECTION = Kind(lambda value: isinstance(value, str) and value == "a", ("ss", 7, {"x": col("ss")}, {7: "a"}))
NEW_TYPES = Kind(lambda value: value in ("auto", None) or value == {}, ({"t": "picture"}, {"t": 1}, "image"))
LOCATION = Kind(lambda value: value is None)


def keyed() -> Table:
    return Table("keyed")


def keyed_call(method: str, good: Mapping[str, Any] | None = None, /, **kinds: Kind) -> Call:
    """A method of a keyed table."""

    def bound(*args: Any, **kwargs: Any) -> Any:
        return getattr(keyed(), method)(*args, **kwargs)

    bound.__signature__ = inspect.signature(getattr(keyed(), method))  # type: ignore[attr-defined]
    return Call(bound, good or {}, kinds)


def run_call(method: str, good: Mapping[str, Any], /, **kinds: Kind) -> Call:
    """A method of a run."""

    def bound(*args: Any, **kwargs: Any) -> Any:
        with track() as run:
            return getattr(run, method)(*args, **kwargs)

    bound.__signature__ = inspect.signature(getattr(Run.__new__(Run), method))  # type: ignore[attr-defined]
    return Call(bound, good, kinds)


PARAMS = Kind(lambda value: value is None or value in ({}, {"a": None}), ({1: 2}, [("a", 1)]))
CODE = Kind(lambda value: value is None or callable(value) or value == "text")

CALLS: dict[str, Call] = {
    "track": Call(track, {}, {"name": optional(TEXT), "params": PARAMS, "transform": CODE,
                              "run_id": Kind(lambda value: value is None or value == "text", ("a\n", "a" * 201))}),
    "lineage": Call(lineage, {"x": "there"}, {"x": Kind(lambda value: False),
                                              "up": optional(WHOLE), "down": optional(WHOLE)}),
    "Run.log_file": run_call("log_file", {"path": "pic.bin"}, key=Kind(lambda value: value in (None, "text"), ("a/",)),
                             path=Kind(lambda value: False, ("gone", Path("rows"), *IMPOSSIBLE))),
    "Run.finish": run_call("finish", {}, status=one_of("completed", "failed", "aborted", bad=("done", "running"))),
    "connect": Call(connect, {}, {"settings": Kind(lambda value: value is None, (Settings, {})),
                                  "overrides": Kind(lambda value: value is None or value == {},
                                                    ({"commit.retry": 1}, {"commit.retries": "many"}))}),
    "udf": Call(udf, {}, {"return_type": ARROW_TYPE}),
    "fetch": Call(fetch, {"value": "a"}, {"value": FILLED_TEXT, "abort_on_error": FLAG}),
    "sparse_field": Call(sparse_field, {"name": "x", "width": 5},
                         {"name": FILLED_TEXT, "width": Kind(lambda value: value == 7, (2**31, 5.0)),
                          "type": Kind(lambda value: value is None or value == pa.int64(), (pa.string(), "float")),
                          "nullable": FLAG}),
    "Table.create": Call(Table.create, {"name": "text", "key_schema": pa.schema({"a": pa.int64()})},
                         {"name": FREE, "key_schema": KEY_SCHEMA, "root_uri": LOCATION, "exist_ok": FLAG,
                          "column_files": FLAG}),
    "Table.schema": keyed_call("schema"),
    "Table.write": keyed_call("write", {"rows": {"a": [1]}}, rows=WRITTEN, push_down_nulls=FLAG, compare=FLAG,
                              column_types=NEW_TYPES),
    "Table.delete_keys": keyed_call("delete_keys", {"keys": []}, keys=DELETED),
    "Table.compact": keyed_call("compact"),
    "Table.drop_columns": keyed_call("drop_columns", {"column_paths": ["s"]}, column_paths=PATHS),
    "Table.enrich": Call(lambda columns, where=None: keyed().enrich(columns, where=where),
                         {"columns": {"x": col("a")}},
                         {"columns": Kind(lambda value: False, ("ss", 7, {"ss": col("ss")}, {7: "a"})),
                          "where": optional(EXPRESSION)}),
    "Table.txn": keyed_call("txn", {}, compare=FLAG, column_types=NEW_TYPES, base=optional(COUNT)),
    "Table.snapshot": keyed_call("snapshot", {}, asof=ASOF),
    "Table.scan": Call(lambda columns="a", where=None, asof=None: keyed().scan(columns, where=where, asof=asof), {},
                       {"columns": PROJECTION, "where": optional(EXPRESSION), "asof": ASOF}),
    "Table.as_dataset": keyed_call("as_dataset", {}, version=LATER_VERSION),
    "Table.select": Call(lambda names="a", exclude=(): keyed().select(names, exclude=exclude), {},
                         {"names": COLUMN, "exclude": Kind(lambda value: value in ([], {}), ("ss", ["a", "s"]))}),
    "Table.to_arrow_dataset": keyed_call("to_arrow_dataset"),
    "Table.to_polars": keyed_call("to_polars"),
    "Table.to_duckdb": keyed_call("to_duckdb"),
    "Table.to_streaming": Call(lambda index, **options: keyed().to_streaming(index, **options), {"index": "spans"},
                               {"index": Kind(lambda value: False, ("spans", 5))}),
    "Dataset": Call(lambda name, *, version=None, as_of=None: Dataset(name, version=version, as_of=as_of),
                    {"name": "there"}, {"name": NEW_NAME, "version": LATER_VERSION}),
    "Dataset.added_since": of("added_since"),
    "Dataset.removed_since": of("removed_since"),
    "Dataset.changes": of("changes", keys=optional(COLUMNS)),
    "Dataset.list_versions": of("list_versions"),
    "Dataset.tag": of("tag", {"tag": "stable"}, tag=Kind(lambda value: value == "text", ("v3", "main", "a b", "1")),
                      move=FLAG),
    "Dataset.untag": of("untag", {"tag": "stable"}, tag=Kind(lambda value: False, ("stabel",))),
    "Dataset.tags": of("tags"),
    "Dataset.from_dict": Call(Dataset.from_dict, {"columns": ROWS}, {"columns": Kind(
        lambda value: False, ({"a": [1], "b": [1, 2]}, {"a": 1}, {"a": [1, "x"]}, {"a": "text"}, [("a", [1])]))}),
    "Dataset.from_pylist": Call(Dataset.from_pylist, {"rows": [{"a": 1}], "schema": pa.schema({"a": pa.int64()})},
                                {"rows": NOT_ROWS}),
    "Dataset.from_arrow": Call(Dataset.from_arrow, {"table": pa.table(ROWS)}, {"table": TABLE}),
    "Dataset.from_pandas": Call(Dataset.from_pandas, {"frame": pd.DataFrame(ROWS)}, {"frame": FRAME}),
    "Dataset.from_polars": Call(Dataset.from_polars, {"frame": pl.DataFrame({"a": [1]})}, {"frame": POLARS}),
    "Dataset.from_huggingface": Call(
        Dataset.from_huggingface, {"name_or_dataset": "./rows"},
        {"name_or_dataset": Kind(lambda value: isinstance(value, str) or value == {}), "streaming": FLAG,
         "split": Kind(lambda value: value is None or isinstance(value, str))}),
    "Dataset.from_torch": Call(Dataset.from_torch, {"dataset": torch.utils.data.TensorDataset(torch.eye(2)),
                                                    "schema": pa.schema({"x": pa.list_(pa.float32(), 2)})},
                               {"dataset": Kind(lambda value: isinstance(value, list)), "schema": SCHEMAS}),
    "Dataset.from_batches": Call(Dataset.from_batches, {"factory": list, "schema": SCHEMA},
                                 {"factory": FACTORY, "schema": SCHEMAS}),
    "Dataset.from_file": Call(Dataset.from_file, {"location": "rows.csv"},
                              {"location": LOCATIONS, "format": one_of(None, "csv", bad=("xlsx", "CSV ")),
                               "null_values": Kind(lambda value: value is None or value in ([], {"a"}), ("NA", [1]))}),
    "Dataset.from_anndata": Call(
        Dataset.from_anndata, {"location": "gone.h5ad"},
        {"location": LOCATIONS, "layer": Kind(lambda value: value is None or isinstance(value, str), ("",)),
         "x": one_of("sparse", "dense", None, bad=("csr", "Dense")), "obs": OBS,
         "join_vars": one_of("auto", "inner", None, bad=("outer", "Auto"))}),
    "Dataset.from_folder": Call(Dataset.from_folder, {"folder": "."},
                                {"folder": Kind(lambda value: False, ("gone", "pic.bin", "s3://x/y", *IMPOSSIBLE)),
                                 "label": one_of(None, "parent", bad=("Parent", "grandparent"))}),
    "Dataset.rows": of("rows"),
    "Dataset.batches": of("batches", size=optional(COUNT), format=one_of("dict", "arrow", bad=("numpy", "Arrow"))),
    "Dataset.collect": of("collect", max_bytes=optional(Kind(lambda value: is_whole(value) and value > 100, (0, 1)))),
    "Dataset.to_arrow": of("to_arrow"),
    "Dataset.to_pandas": of("to_pandas"),
    "Dataset.to_polars": of("to_polars"),
    "Dataset.to_tensors": of("to_tensors"),
    "Dataset.to_huggingface": of("to_huggingface", streaming=FLAG),
    "Dataset.to_mds": of("to_mds", {"folder": "shards"},
                         folder=Kind(lambda value: value == "text", (".", "rows.csv", "https://x/y", *IMPOSSIBLE)),
                         size_limit=Kind(lambda value: value is None or (is_whole(value) and 0 < value < 1 << 32),
                                         (0, 1 << 32, "5tb")),
                         compression=one_of("zstd", "gz:1", "snappy", None, bad=("lz4", "zstd:99")),
                         hashes=Kind(lambda value: isinstance(value, list | tuple) and not value, (["sha"], "sha1")),
                         encodings=Kind(lambda value: value is None or value == {}, ({"x": 5}, {5: "int"}))),
    "Dataset.mapped": of("mapped", path=FOLDER),
    "Dataset.to_duckdb": of("to_duckdb", table_name=Kind(lambda value: value == "text"),
                            connection=Kind(lambda value: value is None)),
    "Dataset.to_torch": of(
        "to_torch", batch_size=optional(COUNT), num_workers=WHOLE,
        rank=Kind(lambda value: False, (1,)), world_size=COUNT, prefetch_batches=WHOLE, fetch_workers=COUNT,
        fetch_timeout=SECONDS, max_inflight_bytes=SPACE, world=WORLD, infinite=FLAG,
        ragged=one_of("jagged", "pad", "list", bad=("padded", "Jagged")),
        sparse=one_of("csr", "dense", bad=("coo", "CSR"))),
    "Dataset.count": of("count"),
    "Dataset.profile": of("profile"),
    "Dataset.select": of("select", {"columns": ["a"]}, columns=NAMES),
    "Dataset.filter": of("filter", {"predicate": "a > 1"}, predicate=Kind(callable, EXPRESSION.bad)),
    "Dataset.head": of("head", n=WHOLE),
    "Dataset.slice": of("slice", {"start": 1}, start=WHOLE, stop=optional(Kind(lambda value: WHOLE.good(value), (0,)))),
    "Dataset.skip": of("skip", {"n": 1}, n=WHOLE),
    "Dataset.take": of("take", {"indices": [0]}, indices=INDICES),
    "Dataset.from_source": Call(Dataset.from_source, {"source": same}, {"source": FUNCTION}),
    "Dataset.pipe": of("pipe", {"operation": same}, operation=FUNCTION),
    "Dataset.sample": of("sample", {"n": 2}, n=WHOLE),
    "Dataset.shard": of("shard", {"index": 0, "count": 2}, index=Kind(lambda value: False, (2,)), count=COUNT),
    "Dataset.repeat": of("repeat", {"times": 2}, times=WHOLE),
    "Dataset.batch": of("batch", {"size": 2}, size=COUNT),
    "Dataset.drop": of("drop", {"columns": ["a"]}, columns=DROPPED),
    "Dataset.rename": of("rename", {"names": {"a": "b"}}, names=RENAMES),
    "Dataset.with_column": of("with_column", {"name": "b", "value": "a + 1"},
                              name=Kind(lambda value: value == "text"), value=VALUE),
    "Dataset.join": of("join", {"other": Dataset.from_dict({"a": [1]}), "keys": "a"}, other=OTHER, keys=COLUMNS,
                       join_type=one_of("inner", bad=("left", "cross", "INNER ", "outer"))),
    "Dataset.sql": of("sql", {"query": "SELECT * FROM data"}, query=QUERY, tables=TABLES,
                      table_name=Kind(lambda value: False, ("a b", "1", "select * from"))),
    "Dataset.query": of("query", {"query": "SELECT * FROM data"}, query=QUERY, tables=TABLES,
                        table_name=Kind(lambda value: False, ("a b", "1"))),
    "Dataset.map": of("map", MAKES, fn=FUNCTION, schema=SCHEMAS, on_error=one_of("raise", "skip", bad=("ignore",))),
    "Dataset.map_batches": of("map_batches", MAKES, fn=FUNCTION, schema=SCHEMAS),
    "Dataset.shuffle": of("shuffle", global_=FLAG, window=optional(COUNT)),
    "Dataset.set_epoch": of("set_epoch", {"epoch": 1}, epoch=WHOLE),
    "Dataset.sort": of("sort", {"by": "a"}, by=SORTED, descending=DESCENDING),
    "Dataset.train_test_split": of("train_test_split", test_size=SHARE, by=optional(COLUMN)),
    "Dataset.load_files": of("load_files", to=LOAD, columns=LOADED,
                             workers=COUNT, max_inflight_bytes=SPACE,
                             on_error=one_of("raise", "null", "skip", bad=("ignore",)),
                             fetch_timeout=SECONDS),
    "Dataset.cache": of("cache", path=FOLDER, load_files=FLAG, overwrite=Kind(lambda value: value is False, (1, True))),
    "Dataset.with_column_types": of("with_column_types", column_types=optional(AUTO_TYPES)),
    "Dataset.save": of("save", WRITE, name=FREE, column_types=optional(AUTO_TYPES)),
    "Dataset.append_to": of("append_to", CHANGE, name=THERE),
    "compute.save": computed(compute.save, WRITE, name=FREE, column_types=optional(AUTO_TYPES)),
    "compute.append_to": computed(compute.append_to, CHANGE, name=THERE),
    "compute.current_engine": Call(compute.current_engine, {}, {}),
    "compute.Processes": Call(Processes, {}, {"workers": COUNT}),
    "compute.Dask": Call(
        compute.Dask, {}, {"address": optional(TEXT), "workers": optional(COUNT), "client": one_of(None)}
    ),
    "compute.Ray": Call(compute.Ray, {}, {"address": optional(TEXT), "workers": optional(COUNT)}),
    "Dataset.overwrite": of("overwrite", CHANGE, name=THERE),
    "Dataset.upsert_into": of("upsert_into", {**CHANGE, "keys": "a"}, name=THERE, keys=optional(COLUMNS)),
    "Dataset.delete_rows": of("delete_rows", {"predicate": "a > 1"}, predicate=EXPRESSION),
    "Dataset.restore": of("restore", {"version": 1}, version=Kind(lambda value: value == 1, (0, 99, "gone", "v1"))),
    "Dataset.add_column": of("add_column", {"name": "b", "type": pa.int64()},
                             name=Kind(lambda value: value == "text", ("a",)), type=ADDED_TYPE),
    "Dataset.rename_column": of("rename_column", {"old": "a", "new": "b"}, old=COLUMN,
                                new=Kind(lambda value: value == "text", ("s",))),
    "Dataset.drop_column": of("drop_column", {"columns": "a"}, columns=COLUMNS),
    "Dataset.widen_column": of("widen_column", {"name": "a", "type": pa.int64()}, name=COLUMN,
                               type=Kind(ARROW_TYPE.good, (*ARROW_TYPE.bad, pa.int8(), pa.string()))),
    "Dataset.update": of("update", column_types=optional(TYPES)),
    "Dataset.set_column_types": of("set_column_types", {"column_types": {}}, column_types=TYPES),
    "Dataset.move": of("move", {"name": "free"}, name=FREE),
    "Dataset.copy": of("copy", {"name": "free"}, name=FREE),
    "Dataset.delete": of("delete", permanent=FLAG),
    "Dataset.list_trash": Call(Dataset.list_trash),
    "Dataset.undelete": Call(Dataset.undelete, {"name": "there"}, {
        "name": Kind(lambda value: False), "new_name": optional(FREE)}),
    "Dataset.empty_trash": Call(Dataset.empty_trash, {}, {"older_than": optional(SPAN), "name": optional(NEW_NAME)}),
    "Dataset.exists": Call(Dataset.exists, {"name": "there"}, {"name": NEW_NAME}),
    "Dataset.explain": of("explain"),
    "FileTree.create": Call(FileTree.create, {"dataset_name": "text", "dataset_project": "text"}, {
        **TREE_KINDS, "parent_datasets": Kind(lambda value: value is None or value == [], (*TREE_ID.bad, [None])),
        "use_current_task": FLAG, "symlinks": one_of("follow", "error", bad=("Follow",)),
        "description": optional(TEXT)}),
    "FileTree.get": Call(FileTree.get, {"dataset_project": "p", "dataset_name": "tree"}, {
        **TREE_KINDS, "dataset_project": Kind(lambda value: value is None, TITLE.bad),
        "dataset_name": Kind(lambda value: value is None, TITLE.bad), "only_completed": SIGNAL, "only_published": FLAG,
        "alias": optional(TEXT), "auto_create": FLAG, "writable_copy": FLAG, "include_archived": FLAG,
        "dataset_tags": Kind(lambda value: value is None or value == [], TAGS.bad),
        "dataset_version": Kind(lambda value: value is None, ("9.9.9", *TITLE.bad))}),
    "FileTree.list_datasets": Call(FileTree.list_datasets, {}, {
        **TREE_KINDS, "dataset_project": optional(TITLE), "partial_name": optional(TEXT),
        "ids": Kind(lambda value: value is None or value in ([], {"a"}), (["a", 7], "a")), "only_completed": FLAG}),
    "FileTree.squash": Call(FileTree.squash, {"dataset_name": "text", "dataset_ids": ["p.tree@v1"]}, {
        **TREE_KINDS, "dataset_ids": Kind(lambda value: False, ([], [None], *TREE_ID.bad)),
        "dataset_project_name_pairs": Kind(lambda value: value is None, ([("p",)], ["p"], [("p", "tree")]))}),
    "FileTree.delete": Call(FileTree.delete, {"dataset_project": "p", "dataset_name": "gone"}, {
        **TREE_KINDS, "entire_dataset": FLAG, "dataset_project": Kind(lambda value: False, TITLE.bad),
        "dataset_name": Kind(lambda value: False, TITLE.bad)}),
    "FileTree.add_files": tree_call("add_files", {"path": "rows"}, path=LOCAL, local_base_folder=optional(LOCAL)),
    "FileTree.add_external_files": tree_call(
        "add_external_files", {"source_url": "memory://gone"}, strict=FLAG, recursive=FLAG,
        source_url=Kind(lambda value: False, ("pic.bin", "file:///pic.bin", "https://me:secret@host/x", ["pic.bin"]))),
    "FileTree.remove_files": tree_call("remove_files", {"dataset_path": "a"},
                                       dataset_path=Kind(lambda value: value == "text", ("", "..", "a/.."))),
    "FileTree.sync_folder": tree_call("sync_folder", {"local_path": "rows"},
                                      local_path=Kind(lambda value: False, ("gone", "rows.csv", *IMPOSSIBLE))),
    "FileTree.upload": tree_call("upload", show_progress=FLAG, compression=Kind(lambda value: True)),
    "FileTree.finalize": tree_call("finalize", final=True, auto_upload=FLAG, verbose=FLAG,
                                   raise_on_error=FLAG),
    "FileTree.publish": tree_call("publish"),
    "FileTree.is_dirty": tree_call("is_dirty"),
    "FileTree.is_final": tree_call("is_final"),
    "FileTree.get_local_copy": tree_call("get_local_copy", {"part": 0, "num_parts": 2}, final=True,
                                         use_soft_links=SIGNAL),
    "FileTree.get_mutable_local_copy": tree_call(
        "get_mutable_local_copy", {"target_folder": "rows", "part": 0, "num_parts": 2}, final=True,
        target_folder=Kind(lambda value: value == "text", ("rows", "pic.bin", *IMPOSSIBLE)), overwrite=FLAG),
    "FileTree.verify_dataset_hash": tree_call(
        "verify_dataset_hash", final=True, skip_hash=FLAG,
        local_copy_path=Kind(lambda value: value is None, ("gone", "pic.bin", *IMPOSSIBLE))),
    "FileTree.list_files": tree_call("list_files", final=True, dataset_path=PATTERNS, dataset_id=FOREIGN_ID),
    "FileTree.list_added_files": tree_call("list_added_files", final=True),
    "FileTree.list_removed_files": tree_call("list_removed_files", final=True),
    "FileTree.list_modified_files": tree_call("list_modified_files", final=True),
    "FileTree.list_renamed_files": tree_call("list_renamed_files", final=True),
    "FileTree.get_dependency_graph": tree_call("get_dependency_graph"),
    "FileTree.get_default_storage": tree_call("get_default_storage"),
    "FileTree.get_logger": tree_call("get_logger"),
    "FileTree.add_tags": tree_call("add_tags"),
    "FileTree.remove_tags": tree_call("remove_tags"),
    "FileTree.set_metadata": tree_call(
        "set_metadata", {"metadata": {}}, metadata_name=TITLE,
        metadata=Kind(lambda value: value is None or isinstance(value, bool | int | float | str | list | dict),
                      ({"a": math.nan}, {1: b"x"}))),
    "FileTree.get_metadata": tree_call("get_metadata", metadata_name=TITLE),
    "collect_garbage": Call(collect_garbage, {}, {"dry_run": FLAG, "grace": SPAN, "patience": SPAN}),
    "World": Call(World, {}, {"rank": Kind(lambda value: False, (1,)), "world_size": COUNT}),
    "World.from_environment": Call(World.from_environment),
    "World.from_torch": Call(World.from_torch),
    "World.shards": Call(World(0, 2).shards, {"shards": []}, {"shards": Kind(lambda value: isinstance(value, list)),
                                                            "shuffle_seed": SEED}),
    "Provenance": Call(Provenance, {}, {
        **{name: optional(TEXT) for name in ("run", "user", "code", "message", "work")}, "depth": WHOLE}),
    "Provenance.summary_entries": Call(Provenance().summary_entries),
    "Fence": Call(Fence, {"key": "k", "expected": None, "value": "1"},
                  {"key": Kind(lambda value: value == "text"), "expected": optional(TEXT), "value": TEXT}),
    "concatenate": Call(concatenate, {"datasets": [Dataset.from_dict({"a": [1]})]}, {"datasets": DATASETS}),
    "interleave": Call(interleave, {"datasets": [Dataset.from_dict({"a": [1]}), Dataset.from_dict({"a": [2]})]}, {
        "datasets": DATASETS, "probabilities": CHANCES,
        "stopping_strategy": one_of("first_exhausted", bad=("first", "ALL_EXHAUSTED"))}),
    "get_dataset": Call(get_dataset, {"name": "there"}, {"name": THERE}),
    "list_datasets": Call(list_datasets),
    "Settings.load": Call(Settings.load),
    "col": Call(col, {"name": "a"}, {"name": FILLED_TEXT}),
    "lit": Call(lit, {"value": 1}, {"value": LITERAL}),
    "Term": Call(Term, {"text": "a"}, {"text": TEXT, "strength": WHOLE, "is_column": FLAG}),
    "Term.between": Call(col("a").between, {"low": 1, "high": 2}, {"low": LITERAL, "high": LITERAL}),
    "Term.concat": Call(col("s").concat, {"other": "!"}, {"other": LITERAL}),
    "Term.is_in": Call(col("a").is_in, {"values": [1]}, {"values": VALUES}),
    "Term.is_null": Call(col("a").is_null),
    "Term.is_not_null": Call(col("a").is_not_null),
    "Term.like": Call(col("s").like, {"pattern": "a%"}, {"pattern": TEXT}),
    "Term.starts_with": Call(col("s").starts_with, {"prefix": "a"}, {"prefix": TEXT}),
    "Term.ends_with": Call(col("s").ends_with, {"suffix": "a"}, {"suffix": TEXT}),
    "Term.contains": Call(col("s").contains, {"part": "a"}, {"part": TEXT}),
    "map_anndata": Call(map_anndata, {"files": "cells.h5ad", "stream": True}, {
        "files": Kind(lambda value: False, ("gone.h5ad", "rows.csv", ["cells.h5ad", "gone.h5ad"], *IMPOSSIBLE)),
        "label_keys": Kind(lambda value: value is None or value == []),
        "join_vars": one_of("auto", "inner", None, bad=("outer",)), "encode_labels": FLAG, "parallel": FLAG,
        "stream": FLAG, "layer": Kind(lambda value: value is None), "sparse": FLAG, "dict_rows": FLAG,
        "dtype": Kind(lambda value: False, ("float31", "U5"))}),
    "MappedCells.collate": Call(lambda rows: MAPPED[0].collate(rows), {}, {"rows": Kind(lambda value: False)}),
    "MappedCells.get_label_weights": Call(lambda keys: MAPPED[0].get_label_weights(keys), {},
                                          {"keys": Kind(lambda value: False)}),
    "MappedCells.close": Call(lambda: MAPPED[0].close()),
    "TorchLoader.set_epoch": Call(lambda epoch: loader().set_epoch(epoch), {"epoch": 1}, {"epoch": WHOLE}),
    "TorchLoader.load_state_dict": Call(lambda state: loader().load_state_dict(state), {}, {"state": STATE}),
    "TorchLoader.state_dict": Call(lambda: loader().state_dict()),
}  # fmt: skip

MAPPED: list[MappedCells] = []
"""The rows of a .h5ad file."""

RESULTS = {DatasetVersion, Changes, GarbageReport, Lineage, SchemaChanges}
"""Made by the library, only read by others."""


def public() -> set[str]:
    """Every public name that can be called."""
    found = set()
    for name in lakefeed.__all__:
        value = getattr(lakefeed, name)
        if not isinstance(value, type):
            found |= {name} if callable(value) else set()
        elif value not in RESULTS and not issubclass(value, Handle):
            found |= {f"{name}.{method}" for method in methods(value)}
            found |= {name} if dataclasses.is_dataclass(value) or value is Dataset else set()
    found |= {f"compute.{name}" for name in compute.__all__ if name != "Engine"}
    return found | {f"TorchLoader.{method}" for method in methods(TorchLoader)}


GROUPED: dict[type, str] = {Dataset: "lakefeed.dataset", FileTree: "lakefeed.trees"}
"""Classes whose methods are in several modules of a package."""


def methods(kind: type) -> set[str]:
    """The public functions that a class itself defines, those of `GROUPED` ones in all groups of methods."""
    groups = [each for each in kind.__mro__ if each.__module__.startswith(GROUPED.get(kind, "-"))]
    return {
        name
        for group in groups or [kind]
        for name, value in vars(group).items()
        if not name.startswith(("_", "settings_customise"))
        and not isinstance(value, property)
        and callable(getattr(kind, name))
    }


def write_cells(path: Path) -> None:
    """Writes a .h5ad file of 3 x 2 numbers."""
    with h5py.File(path, "w") as file:
        file["X"] = np.eye(3, 2, dtype="f4")
        for table, names in (("obs", ["c0", "c1", "c2"]), ("var", ["g0", "g1"])):
            file[f"{table}/_index"] = names
            file[f"{table}/_index"].attrs["encoding-type"] = "string-array"
            file[table].attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index"})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all calls are made: each is tested to leave it as it was."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "work" / "rows").mkdir(parents=True)
    (folder / "tmp").mkdir()
    (folder / "work" / "rows.csv").write_text("a,s\n1,x\n")
    (folder / "work" / "rows" / "rows.csv").write_text("a,s\n1,x\n")
    (folder / "work" / "pic.bin").write_bytes(b"picture")
    (folder / "work" / "loop").symlink_to("loop")
    write_cells(folder / "work" / "cells.h5ad")
    MAPPED.append(map_anndata(folder / "work" / "cells.h5ad", stream=True))
    return folder


@pytest.fixture(autouse=True)
def there(shared: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shared / "work")
    monkeypatch.setenv("LAKEFEED_HOME", str(shared / "home"))
    monkeypatch.setenv("TMPDIR", str(shared / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(shared / "tmp"))
    if Dataset.exists("there"):
        return
    with track():  # the code of this program is stored once
        pass
    made = Dataset.from_dict({**ROWS, "img": ["pic.bin"] * 3}, schema=SCHEMA.append(pa.field("img", pa.string())))
    made.save("there", column_types={"img": "file"})
    Table.create("keyed", key_schema={"a": pa.int64()}).write({"a": [1], "s": ["x"]})
    subject().tag("stable")
    version = FileTree.create("tree", "p")
    version.add_files("rows")
    version.finalize(auto_upload=True)
    TREES[True], TREES[False] = version, FileTree.create("tree", "p", version)


POOLS = ("ThreadPoolExecutor", "lakefeed-arrays", "lakefeed-files", "lakefeed-web-deadline")
"""Threads of the process, made once: PyIceberg's pool, which has no name, and those that fetch files."""


def traces() -> tuple[Any, ...]:
    """What a call could leave behind."""
    folders = (Path(os.environ["LAKEFEED_HOME"]), Path(tempfile.gettempdir()), Path.cwd())
    found = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    files = {str(path) for path in found if "catalog.db" not in path.name}
    newest = [(one.name, one.version, str(one.schema), one.description, str(one.tags())) for one in list_datasets()]
    ours = {thread.name for thread in threading.enumerate() if not thread.name.startswith(("Main", *POOLS))}
    return files, newest, ours


def differing(before: tuple[Any, ...], after: tuple[Any, ...]) -> list[Any]:
    """What is new, and the files and datasets that are gone; a thread of an earlier test may end meanwhile."""
    new = [item for old, now in zip(before, after, strict=True) for item in now if item not in old]
    return new + [item for old, now in zip(before[:2], after[:2], strict=True) for item in old if item not in now]


def test_every_public_call_has_an_entry() -> None:
    assert public() - CALLS.keys() == set(), "say in CALLS what the arguments of a new call may be"
    assert CALLS.keys() - public() == set(), "gone, or no longer public"


def test_every_argument_has_an_entry() -> None:
    arguments = [(name, one) for name, call in CALLS.items() for one in call.arguments()]
    assert [(name, one) for name, one in arguments if CALLS[name].kind(one) is None] == []


@pytest.mark.parametrize("name", sorted(name for name, call in CALLS.items() if call.arguments()))
def test_bad_input(name: str) -> None:
    call = CALLS[name]
    before = traces()
    found = []
    for argument in call.arguments():
        kind = call.kind(argument)
        assert kind is not None
        for value in kind.wrong():
            complaint = complaint_of(partial(call.what, **{**call.good, argument: value}), argument, value)
            found += [f"{name}({argument}={value!r:.60}): {complaint}"] if complaint else []
    if change := differing(before, traces()):
        found.append(f"{name} left something behind, or took it away: {change}")
    assert not found, "\n".join(found)


SAID_OTHERWISE = {"predicate": "^", "where": "^", "value": "^", "query": "SELECT", "columns": "column"}
"""How messages speak of an argument that they do not name: a caret is the place in a text."""


def complaint_of(call: Callable[[], Any], argument: str, value: Any) -> str | None:
    """What is wrong with how a bad value is refused."""
    try:
        call()
    except LakefeedError as error:
        if not isinstance(error, BUILTIN):
            return f"{type(error).__name__} is no builtin's kind"
        said = str(error)
        return None if any(clue and clue in said for clue in clues(argument, value)) else f"what is wrong? {said}"
    except Exception as error:  # noqa: BLE001  # any other is a finding
        return f"{type(error).__name__}: {str(error)[:120]}"
    return "no error"


BUILTIN = (ValueError, TypeError, LookupError, OSError, NotImplementedError, MemoryError)


def clues(argument: str, value: Any) -> list[str]:
    """One of these a message must hold: the argument's name, or something of the value."""
    parts = list(value) if isinstance(value, list | dict | set) else []
    parts += value.names if isinstance(value, pa.Schema) else value.column_names if isinstance(value, pa.Table) else []
    parts += [value] if isinstance(value, str) and value in IMPOSSIBLE else []  # messages have the absolute path
    return [argument, SAID_OTHERWISE.get(argument, argument), repr(value)[:20], type(value).__name__, *map(str, parts)]


@pytest.mark.parametrize("options", [{"nonsense": 1}, {"collate_fn": 7}, {"in_order": False}, {"batch_sampler": []}])
def test_what_torchs_loader_does_not_take(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(options))):
        subject().to_torch(batch_size=2, **options)


@pytest.mark.parametrize("origin", [subject, lambda: Dataset.from_dict(ROWS)])
def test_numbers_beyond_64_bits_are_past_the_end(origin: Callable[[], Dataset]) -> None:
    rows, huge = origin(), 2**70
    assert rows.head(huge).count() == rows.sample(huge).count() == rows.to_arrow().num_rows == 3
    assert rows.skip(huge).to_arrow().num_rows == rows.slice(huge, huge + 1).count() == 0
    assert [len(batch["a"]) for batch in rows.batches(huge)] == [3]


def test_what_errors_there_are() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LakefeedError)]
    assert all(len(kind.__mro__) > 4 for kind in kinds if kind is not LakefeedError)
    assert issubclass(AddedRows, Dataset)
    assert issubclass(RemovedRows, AddedRows)
