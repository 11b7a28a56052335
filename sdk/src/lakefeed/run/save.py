"""Plans written to the lake: one call is one version."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa

from lakefeed._typing import ColumnTypes, IfExists
from lakefeed._validate import check_text
from lakefeed.catalog.action import Fence, Provenance, WriteOptions
from lakefeed.catalog.commit import append, create
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.schema import declared_schema
from lakefeed.catalog.table_key import key_columns
from lakefeed.catalog.versions import DatasetVersion
from lakefeed.errors import DatasetExistsError, InvalidArgumentError, quoted_list
from lakefeed.media import infer_column_types, may_hold_files, normalize_types, typed_columns
from lakefeed.media.cell_sources import CopyFiles
from lakefeed.ops import Shuffle, Slice
from lakefeed.optimize import optimize
from lakefeed.plan import Node
from lakefeed.plan.walk import transform
from lakefeed.run import keyed_rows
from lakefeed.run.local_runner import LocalRunner
from lakefeed.run.progress import tracked
from lakefeed.run.row_count import known_rows
from lakefeed.run.write_context import WriteContext, with_files

SAMPLE_ROWS = 100


IF_EXISTS = ("error", "append", "new_version")


@dataclass(frozen=True)
class Writing:
    """The arguments of a write besides its rows: see ``Dataset.save``."""

    copy_files: CopyFiles = "auto"
    stats: bool = True
    provenance: Provenance | None = None
    idempotency_key: str | None = None
    fence: Fence | None = None
    if_exists: IfExists = "error"

    @classmethod
    def of(
        cls,
        options: WriteOptions,
        copy_files: Any = "auto",
        stats: Any = True,
        description: Any = None,
        if_exists: Any = "error",
    ) -> Writing:
        """Returns the checked keywords of a write; ``description`` is checked only.

        Raises:
            TypeError: ``options`` has a keyword that no write takes.
        """
        unknown = [name for name in options if name not in WriteOptions.__annotations__]
        if unknown:
            raise TypeError(
                f"unexpected keyword argument {unknown[0]!r}; there are {quoted_list(WriteOptions.__annotations__)}"
            )
        if copy_files != "auto" and not isinstance(copy_files, bool):
            raise InvalidArgumentError(f'copy_files={copy_files!r}: it is "auto", True or False')
        if not isinstance(stats, bool):
            raise InvalidArgumentError(f"stats must be True or False, got {stats!r}")
        key, kinds = options.get("idempotency_key"), {"provenance": Provenance, "fence": Fence}
        for name, kind in kinds.items():
            given = options.get(name)
            if given is not None and not isinstance(given, kind):
                raise InvalidArgumentError(f"{name}={given!r:.80}: give a lakefeed.{kind.__name__}")
        for given, name in ((key, "idempotency_key"), (description, "description")):
            if given is not None:
                check_text(given, name)
        if key == "":
            raise InvalidArgumentError(
                "idempotency_key='': an empty key would be shared by all; give one of this action's own"
            )
        if not isinstance(if_exists, str) or if_exists not in IF_EXISTS:
            raise InvalidArgumentError(f'if_exists={if_exists!r:.80}: it is "error", "append" or "new_version"')
        return cls(copy_files, stats, if_exists=cast("IfExists", if_exists), **options)

    @property
    def action(self) -> WriteOptions:
        return {"provenance": self.provenance, "idempotency_key": self.idempotency_key, "fence": self.fence}


def save(
    lake: Lake, plan: Node, name: str, description: str | None, column_types: ColumnTypes | str | None, writing: Writing
) -> DatasetVersion:
    """The plan's rows as the first version of a new dataset."""
    runner = LocalRunner(lake.settings)
    types = types_of_new(lake, runner, plan, name, column_types, writing)
    with (
        with_files(lake, plan, types, writing.copy_files, writing.stats, name) as (typed, before_commit),
        closing(runner.batches(typed)) as batches,
    ):
        return create(
            lake,
            name,
            typed.schema,
            tracked(batches, f"save {name}", known_rows(plan)),
            description=description,
            before_commit=before_commit,
            **writing.action,
        )


def append_to(lake: Lake, plan: Node, name: str, writing: Writing) -> DatasetVersion:
    """Appends the plan's rows to a dataset as its next version. Of a dataset with a key, the keys must be new."""
    keys = key_columns(lake.table(name))
    if keys:
        return keyed_rows.insert(lake, plan, name, keys, writing)
    with (
        typed_for(lake, plan, name, writing) as (typed, before_commit),
        closing(LocalRunner(lake.settings).batches(typed)) as batches,
    ):
        return append(
            lake,
            name,
            tracked(batches, f"append {name}", known_rows(plan)),
            schema=typed.schema,
            before_commit=before_commit,
            **writing.action,
        )


def typed_for(lake: Lake, plan: Node, name: str, writing: Writing) -> AbstractContextManager[WriteContext]:
    """The plan with the file columns that the dataset ``name`` has, to be written in a block."""
    return with_files(lake, plan, types_of_old(lake, plan, name), writing.copy_files, writing.stats, name)


def types_of_new(
    lake: Lake, runner: LocalRunner, plan: Node, name: str, column_types: ColumnTypes | str | None, writing: Writing
) -> dict[str, str]:
    """The media types of the plan's file columns in a dataset that is to be.

    Raises:
        DatasetExistsError: there is one of this name; not if the write may be one that is repeated.
    """
    if writing.idempotency_key is None and lake.exists(name):
        raise DatasetExistsError.of(name)
    return {**typed_columns(plan.schema), **choose_types(runner, plan, column_types)}


def types_of_old(lake: Lake, plan: Node, name: str) -> dict[str, str]:
    """The media types of the plan's file columns in the dataset ``name``."""
    target = typed_columns(declared_schema(lake.table(name)))
    names = frozenset(plan.schema.names)
    return normalize_types({c: media for c, media in target.items() if c in names}, plan.schema)


def choose_types(runner: LocalRunner, plan: Node, column_types: ColumnTypes | str | None) -> dict[str, str]:
    """The media types that ``column_types`` asks for: "auto" looks at a sample, a mapping is exact, None is none."""
    if column_types is None:
        return {}
    if not isinstance(column_types, str):
        return normalize_types(column_types, plan.schema)
    if column_types != "auto":
        raise InvalidArgumentError(
            f'column_types is {column_types!r}; it is "auto", a mapping of columns to types, or None'
        )
    return infer_column_types(_sample(runner, plan)) if any(map(may_hold_files, plan.schema)) else {}


def _sample(runner: LocalRunner, plan: Node) -> pa.Table:
    # Unshuffled rows tell as much, and the first of them cost little.
    unshuffled = transform(plan, lambda node: node.child if isinstance(node, Shuffle) else node)
    batches: Iterator[pa.RecordBatch] = runner.stream(optimize(Slice(unshuffled, 0, SAMPLE_ROWS)))  # no input of a run
    return pa.Table.from_batches(list(batches), plan.schema)
