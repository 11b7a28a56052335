"""Tables and AnnData objects with their features: validated, and linked to the dataset that is made of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakefeed._validate import check_flag
from lakefeed.arrays.memory_cells import is_anndata
from lakefeed.errors import InvalidArgumentError
from lakefeed.registry.data_kinds import TableData, check_data
from lakefeed.registry.feature_records import Feature
from lakefeed.registry.registry_fields import Field, check_field
from lakefeed.registry.validation import Problem, find_problems, find_unknown_names, raise_problems

if TYPE_CHECKING:
    from lakefeed.registry.dataset_records import Dataset

logger = logging.getLogger(__name__)


def dataset_of_frame(kind: type[Dataset], df: Any, field: Any, strict: bool, facts: Mapping[str, Any]) -> Dataset:
    """Returns a dataset of a table with its features; see `Dataset.from_df`."""
    data = check_data(df) if not isinstance(df, str) else None
    if not isinstance(data, TableData):
        raise InvalidArgumentError(f"df must be a DataFrame or an Arrow table, got {df!r:.80}")
    chosen = Feature.name if field is None else check_field(field)
    dataset = kind(df, **facts)
    problems, sets = _describe(_table_of(data), "columns", chosen)
    return _with_features(dataset, problems, sets, strict)


def dataset_of_anndata(kind: type[Dataset], adata: Any, field: Any, strict: bool, facts: Mapping[str, Any]) -> Dataset:
    """Returns a dataset of an AnnData with its features; see `Dataset.from_anndata`."""
    if not is_anndata(adata):
        raise InvalidArgumentError(f"adata must be an AnnData, got {adata!r:.80}")
    chosen = check_field(field)
    dataset = kind(adata, **facts)
    names = [str(name) for name in adata.var_names]
    known = chosen.find_declared(names)
    problems = find_unknown_names(names, known, "var", str(chosen))
    of_obs, sets = _describe(pa.Table.from_pandas(adata.obs, preserve_index=False), "obs", Feature.name)
    valid = [name for name in names if name in known]
    return _with_features(dataset, [*problems, *of_obs], {**({"var": valid} if valid else {}), **sets}, strict)


def _table_of(data: TableData) -> pa.Table:
    """Returns the rows without an index that has no name, which is not a column to validate."""
    table = data.rows().to_arrow()
    unnamed = [column for column, level in data.index if level is None]
    return table.drop_columns(unnamed) if unnamed else table


def _describe(table: pa.Table, slot: str, field: Field) -> tuple[list[Problem], dict[str, list[str]]]:
    """Returns the problems of a table, and the names of its valid columns by slot."""
    declared = field.find_declared(table.column_names)
    problems = find_problems(table, declared, slot, str(field))
    valid = [name for name in table.column_names if name in declared]
    return problems, {slot: valid} if valid else {}


def _with_features(
    dataset: Dataset, problems: Sequence[Problem], sets: Mapping[str, list[str]], strict: bool
) -> Dataset:
    if check_flag(strict, "strict"):
        raise_problems(problems)
    for problem in problems:
        logger.warning("%s", problem)
    dataset._unvalidated, dataset._new_feature_sets = tuple(problems), dict(sets)
    return dataset
