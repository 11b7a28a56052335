"""Names under which lakefeed keeps its own facts in Iceberg table properties and snapshot summaries."""

from __future__ import annotations

from typing import Final

# Table properties.
DESCRIPTION: Final = "lakefeed.description"
COLUMN_TYPES: Final = "lakefeed.column-types"
ARROW_TYPES: Final = "lakefeed.arrow-types"
FENCE_PREFIX: Final = "lakefeed.fence."
# By field id, the types of file columns that the table has no more: older versions still have them.
DROPPED_COLUMN_TYPES: Final = "lakefeed.dropped-column-types"
# By snapshot id, the numbers of versions to which Iceberg gave none.
VERSION_NUMBERS: Final = "lakefeed.version-numbers"

# A property of namespaces, by the name of a table: the datasets of that name that were deleted.
DELETED_PREFIX: Final = "lakefeed.deleted."

# Snapshot summary.
RUN: Final = "lakefeed.run"
USER: Final = "lakefeed.user"
CODE: Final = "lakefeed.code"
MESSAGE: Final = "lakefeed.message"
# Of what a routine or ingestion did, as JSON; and how many routines stand between this version and an outside writer.
WORK: Final = "lakefeed.work"
DEPTH: Final = "lakefeed.depth"
IDEMPOTENCY_KEY: Final = "lakefeed.idempotency-key"
# Rows that are new or gone, where the records of the files say more than that: rows that only moved are in both.
ROWS_ADDED: Final = "lakefeed.rows-added"
ROWS_REMOVED: Final = "lakefeed.rows-removed"

# What every table that lakefeed creates starts with: planning stays flat, and metadata files do not pile up.
TABLE_DEFAULTS: Final = {
    "commit.manifest-merge.enabled": "true",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "100",
}
