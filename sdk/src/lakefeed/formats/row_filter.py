"""A condition on the rows of a row group, decided before everything else of it is decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import pyarrow as pa

from lakefeed._units import KIB, MIB
from lakefeed.formats.parquet_footer import Footer

LATE_BYTES = 64 * KIB
"""Stored bytes of which decoding costs about what it costs to read a row group in two steps."""
DICTIONARY_BYTES = MIB
"""A column whose dictionary grows beyond this is not written as one any more."""


@dataclass
class Selectivity:
    """How often a row group holds no row that is wanted: a guess, then what was seen. Races do it no harm."""

    looked: int = 2
    without: int = 1

    def note(self, hits: int) -> None:
        self.looked += 1
        self.without += not hits


@dataclass(frozen=True, eq=False)
class RowFilter:
    """Which rows of a file are wanted.

    ``test`` looks at ``columns`` (names in the file) of a batch and says for each row whether it is wanted; null is no.
    ``texts`` are those of them that it also takes as dictionaries, ``beside`` those that nobody else asks for, each
    with what to read of it (its name, or dotted paths of fields).
    """

    columns: frozenset[str]
    test: Callable[[pa.RecordBatch], pa.Array[Any]]
    texts: frozenset[str] = frozenset()
    beside: dict[str, list[str]] = field(default_factory=dict)
    odds: Selectivity = field(default_factory=Selectivity)

    def steps(self, footer: Footer, group: int, names: Sequence[str]) -> tuple[list[str], list[str]]:
        """What is decoded at once, and what of ``names`` only if a row is wanted: nothing, where that saves little."""
        names = [*names, *chain.from_iterable(self.beside.values())]
        first = [name for name in names if name in self.columns or name.partition(".")[0] in self.columns]
        rest = [name for name in names if name not in first]
        return (first, rest) if first and self._saves(footer, group, rest) else (names, [])

    def _saves(self, footer: Footer, group: int, rest: Sequence[str]) -> bool:
        worth = LATE_BYTES * self.odds.looked / self.odds.without
        info, saved = footer.metadata.row_group(group), 0
        for index in (index for name in rest for index in footer.stored.get(name, ())):
            saved += info.column(index).total_compressed_size
            if saved >= worth:
                return True
        return False

    def dictionaries(self, footer: Footer, group: int) -> list[str]:
        """The texts that are stored as dictionaries in a row group, from the first value to the last."""
        info, found = footer.metadata.row_group(group), []
        for name in self.texts:
            [column] = map(info.column, footer.stored[name])
            if column.has_dictionary_page and column.total_uncompressed_size <= DICTIONARY_BYTES:
                found.append(name)
        return found

    def mask(self, table: pa.Table) -> pa.Array[Any] | None:
        """Which rows of a row group are wanted; None for none of them."""
        masks = [self.test(batch) for batch in table.to_batches()]
        found: Any = masks[0] if len(masks) == 1 else pa.concat_arrays([*masks, pa.array([], pa.bool_())])
        hits = found.true_count
        self.odds.note(hits)
        return found if hits else None

    def kept(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows of a batch that are wanted."""
        return _filter_batch(batch, self.test(batch))

    def filtered(self, table: pa.Table, mask: pa.Array[Any]) -> Iterator[pa.RecordBatch]:
        """The rows of a table for which the mask is true, without the columns that were read for the test only."""
        start, names = 0, [name for name in table.column_names if name not in self.beside]
        # Rows without any column could not be filtered.
        for batch in (table.select(names) if names else table).to_batches():
            yield _filter_batch(batch, mask.slice(start, batch.num_rows))
            start += batch.num_rows


def _filter_batch(batch: pa.RecordBatch, mask: Any) -> pa.RecordBatch:
    return batch if mask.true_count == len(mask) else batch.filter(mask)
