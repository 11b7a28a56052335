"""Filters on the rows of a row group that are decided before other columns are decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakefeed._units import KIB, MIB
from lakefeed.formats.parquet_footer import Footer

LATE_BYTES = 64 * KIB
"""Stored bytes that take about as long to decode as the second step of reading a row group in two steps."""
DICTIONARY_BYTES = 1 * MIB
"""The writer stops dictionary encoding of a column whose dictionary exceeds this size."""


@dataclass
class Selectivity:
    """The share of row groups without a matching row: first a guess, then the observed share. Races are harmless."""

    groups: int = 2
    empty_groups: int = 1

    def record(self, matches: int) -> None:
        self.groups += 1
        self.empty_groups += not matches


@dataclass(frozen=True, eq=False)
class RowFilter:
    """Selects the matching rows of a file.

    Attributes:
        columns: the columns of the file that ``predicate`` reads.
        predicate: returns for each row of a batch whether it matches; null does not match.
        dictionary_columns: the text columns that ``predicate`` also takes as dictionaries.
        extra_columns: the columns that only ``predicate`` reads, each with what to read of it (its name, or dotted
            paths of fields).
        selectivity: shared by the filters of one scan.
        positions: the rows of the row group that are there at all, sorted; None for all.
    """

    columns: frozenset[str]
    predicate: Callable[[pa.RecordBatch], pa.Array[Any]]
    dictionary_columns: frozenset[str] = frozenset()
    extra_columns: dict[str, list[str]] = field(default_factory=dict)
    selectivity: Selectivity = field(default_factory=Selectivity)
    positions: NDArray[np.int64] | None = None

    def steps(self, footer: Footer, group: int, names: Sequence[str]) -> tuple[list[str], list[str]]:
        """Returns the columns to decode first, and those of ``names`` to decode only if a row matches.

        The second list is empty if two steps would save little.
        """
        names = [*names, *chain.from_iterable(self.extra_columns.values())]
        first = [name for name in names if name in self.columns or name.partition(".")[0] in self.columns]
        rest = [name for name in names if name not in first]
        return (first, rest) if first and self._is_worthwhile(footer, group, rest) else (names, [])

    def _is_worthwhile(self, footer: Footer, group: int, rest: Sequence[str]) -> bool:
        threshold = LATE_BYTES * self.selectivity.groups / self.selectivity.empty_groups
        info, saved = footer.metadata.row_group(group), 0
        for index in (index for name in rest for index in footer.stored.get(name, ())):
            saved += info.column(index).total_compressed_size
            if saved >= threshold:
                return True
        return False

    def dictionaries(self, footer: Footer, group: int) -> list[str]:
        """Returns the text columns whose values in a row group are all stored as dictionary indices."""
        info, names = footer.metadata.row_group(group), []
        for name in self.dictionary_columns:
            [column] = map(info.column, footer.stored[name])
            if column.has_dictionary_page and column.total_uncompressed_size <= DICTIONARY_BYTES:
                names.append(name)
        return names

    def mask(self, table: pa.Table) -> pa.Array[Any] | None:
        """Returns which rows of a row group match; None if no row matches."""
        masks = [self.predicate(batch) for batch in table.to_batches()]
        mask: Any = masks[0] if len(masks) == 1 else pa.concat_arrays([*masks, pa.array([], pa.bool_())])
        if self.positions is not None:
            mask = _only(mask, self.positions)
        matches = mask.true_count
        self.selectivity.record(matches)
        return mask if matches else None

    def filter_batch(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Returns the matching rows of a batch."""
        return _filter_batch(batch, self.predicate(batch))

    def filter_table(self, table: pa.Table, mask: pa.Array[Any]) -> Iterator[pa.RecordBatch]:
        """Yields the rows of a table for which the mask is true, without the extra columns."""
        start, names = 0, [name for name in table.column_names if name not in self.extra_columns]
        # Arrow cannot filter rows without columns.
        for batch in (table.select(names) if names else table).to_batches():
            yield _filter_batch(batch, mask.slice(start, batch.num_rows))
            start += batch.num_rows


def _only(mask: Any, positions: NDArray[np.int64]) -> pa.Array[Any]:
    """Returns the mask with false in all other rows."""
    matches = mask.fill_null(False).to_numpy(zero_copy_only=False)
    selected = np.zeros(len(matches), np.bool_)
    selected[positions] = matches[positions]
    return pa.array(selected)


def _filter_batch(batch: pa.RecordBatch, mask: Any) -> pa.RecordBatch:
    return batch if mask.true_count == len(mask) else batch.filter(mask)
