"""Names under which lakefeed keeps its own facts in Iceberg table properties and snapshot summaries."""

from __future__ import annotations

from typing import Final

# Table properties.
DESCRIPTION: Final = "lakefeed.description"
COLUMN_TYPES: Final = "lakefeed.column-types"
ARROW_TYPES: Final = "lakefeed.arrow-types"
FENCE_PREFIX: Final = "lakefeed.fence."

# Snapshot summary.
RUN: Final = "lakefeed.run"
USER: Final = "lakefeed.user"
CODE: Final = "lakefeed.code"
MESSAGE: Final = "lakefeed.message"
IDEMPOTENCY_KEY: Final = "lakefeed.idempotency-key"

# What every table that lakefeed creates starts with: planning stays flat, and metadata files do not pile up.
TABLE_DEFAULTS: Final = {
    "commit.manifest-merge.enabled": "true",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "100",
}
