"""The way to PyTorch: loaders and tensors, or an error that says how to install it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakefeed._typing import Ragged, Sparse
from lakefeed._validate import check_flag, check_schema, check_whole, require_torch
from lakefeed.errors import SchemaError
from lakefeed.loaders.batch_positions import Batching
from lakefeed.plan import Node, Source
from lakefeed.run import LocalRunner
from lakefeed.run.shared_spill import job
from lakefeed.run.step_chain import SkippedRows

if TYPE_CHECKING:
    from lakefeed.loaders.torch_loader import TorchLoader


def tensors(table: pa.Table) -> dict[str, Any]:
    """Returns the columns as tensors."""
    with require_torch("to_tensors"):
        from lakefeed.loaders.table_tensors import table_tensors
    return table_tensors(table)


def torch_rows(given: Any, schema: pa.Schema | None) -> Source:
    """Returns the rows of a PyTorch dataset."""
    if schema is None:
        raise SchemaError("from_torch needs schema=, such as pa.schema({'image': pa.list_(pa.float32(), 784), …})")
    with require_torch("from_torch"):
        from lakefeed.sources import torch_source
    return torch_source.create_torch_source(given, check_schema(schema))


def torch_loader(
    plan: Node,
    runner: LocalRunner,
    batching: Batching,
    prefetch_batches: int,
    ragged: Ragged,
    infinite: Any,
    options: Mapping[str, Any],
    *,
    sparse: Sparse = "csr",
    arrow: bool = False,
) -> TorchLoader:
    """Returns the loader of ``to_torch``. With ``arrow`` its batches are record batches."""
    check_whole(options["num_workers"], "num_workers")
    check_whole(prefetch_batches, "prefetch_batches")
    with require_torch("to_torch"):
        from lakefeed.loaders.torch_loader import create_loader
    from lakefeed.loaders.epochs import Epochs

    endless = check_flag(infinite, "infinite")
    runner = replace(runner, skipped=SkippedRows(), job=job() if batching.world.world_size > 1 else runner.job)
    epochs = Epochs(plan, runner)
    forms: Any = {"ragged": ragged, "sparse": sparse, "arrow": arrow}
    return create_loader(epochs, batching, prefetch_batches, options, infinite=endless, **forms)
