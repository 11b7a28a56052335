"""An upsert whose rows are in staged files, which become files of the table as they are where they fit."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from lakefeed.catalog.edit_commit import Draft
from lakefeed.catalog.staged_files import field_ids
from lakefeed.config import Settings
from lakefeed.keyed.transaction_operations import Operation
from lakefeed.plan import Node
from lakefeed.run.upsert import Match, Upsert
from lakefeed.sources.iceberg_source import IcebergSource


@dataclass(eq=False)
class StagedUpsert(Upsert):
    """The upsert.

    Attributes:
        operation: the operation that names the staged files; None if there are none.
    """

    operation: Operation | None = None

    @classmethod
    def of_operation(
        cls,
        settings: Settings,
        plan: Node,
        keys: tuple[str, ...],
        target: pa.Schema,
        compare: bool,
        operation: Operation | None,
    ) -> StagedUpsert:
        """Returns the upsert of rows, as `Upsert.of` does."""
        checked = Upsert.of(settings, plan, keys, target, compare)
        return cls(checked.settings, plan, keys, target, compare, operation=operation)

    def _add(
        self, draft: Draft, source: IcebergSource | None, matches: dict[str, Match], changed: dict[str, Match]
    ) -> None:
        if self.operation is None or not self._fits(draft, matches, changed):
            super()._add(draft, source, matches, changed)
            return
        files = self.operation.files
        draft.add(("staged", self.operation.id), tuple, lambda *_: files)

    def _fits(self, draft: Draft, matches: dict[str, Match], changed: dict[str, Match]) -> bool:
        """Returns whether the staged files have exactly the rows to add, with all columns of the table."""
        assert self.operation is not None, "the caller has checked it"
        stay = set(matches) - set(changed) or any(
            len(matches[path].places) > len(changed[path].places) for path in changed
        )
        names = draft.schema.names
        return not stay and field_ids(draft.table.schema(), names) == self.operation.field_ids
