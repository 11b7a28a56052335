"""Names of lakefeed's entries in Iceberg table properties, namespace properties and snapshot summaries."""

from __future__ import annotations

from typing import Final

# Table properties.
DESCRIPTION: Final = "lakefeed.description"
COLUMN_TYPES: Final = "lakefeed.column-types"
ARROW_TYPES: Final = "lakefeed.arrow-types"
FENCE_PREFIX: Final = "lakefeed.fence."
# The media types of dropped file columns by field id. Older versions still have these columns.
DROPPED_COLUMN_TYPES: Final = "lakefeed.dropped-column-types"
# The first name of a dataset that was renamed. States of loaders and positions of routines contain it.
FIRST_NAME: Final = "lakefeed.first-name"
# The name and the time of deletion of a dataset in the trash, as JSON.
TRASHED: Final = "lakefeed.trashed"
# The version numbers of snapshots without a sequence number, by snapshot id.
VERSION_NUMBERS: Final = "lakefeed.version-numbers"

# By schema id: the schema of the columns that are in column files, from that schema on; empty if there are none.
COLUMN_SCHEMA_PREFIX: Final = "lakefeed.column-schema."

# A table property: the root below which the table lies, if that is not the warehouse.
ROOT: Final = "lakefeed.root"

# A table property: "off" writes rows again instead of column files, so that every engine sees derived columns at once.
COLUMN_FILES: Final = "lakefeed.column-files"

# A namespace property, by the end of its name: the location of a table outside the warehouse.
LOCATION_PREFIX: Final = "lakefeed.location."

# A namespace property, by table name: the deleted datasets of that name.
DELETED_PREFIX: Final = "lakefeed.deleted."

# A table property: the name and the project of a file tree, as JSON.
TREE: Final = "lakefeed.tree"
# In a snapshot summary: the key of the id of a version of a file tree.
TREE_ID: Final = "lakefeed.tree.id"
# The ids of the parents of a version of a file tree, as JSON.
TREE_PARENTS: Final = "lakefeed.tree.parents"

# Snapshot summary.
RUN: Final = "lakefeed.run"
USER: Final = "lakefeed.user"
CODE: Final = "lakefeed.code"
MESSAGE: Final = "lakefeed.message"
# The work of a routine or ingestion as JSON, and the number of routines between this version and an outside writer.
WORK: Final = "lakefeed.work"
DEPTH: Final = "lakefeed.depth"
LABEL: Final = "lakefeed.label"
"""The label of a version, such as 1.0.0, unique within its dataset."""
HASH: Final = "lakefeed.hash"
"""The hash of the full content of the version."""
INPUTS: Final = "lakefeed.inputs"
"""The versions that the run had read before the commit: a JSON list of at most 100 versions, each with the dataset,
the uuid of its table, the plan and the seed, and then the number of the others
(:mod:`lakefeed.catalog.current_run`)."""
RECORD: Final = "lakefeed.record"
"""Facts of the record at its commit, as JSON: name, description, labels, feature sets, reference, member token."""
IDEMPOTENCY_KEY: Final = "lakefeed.idempotency-key"
# The number of rows added and removed. Iceberg's own counts include rows that only moved to other files.
ROWS_ADDED: Final = "lakefeed.rows-added"
ROWS_REMOVED: Final = "lakefeed.rows-removed"
# Rows that were removed may equal rows that were added: several rows had the key of one row of an upsert.
REPLACED_EQUAL: Final = "lakefeed.replaced-equal"
# The number of rows of a version that has delete files. Iceberg's own total counts rows that they remove.
ROWS: Final = "lakefeed.rows"
# The ids of the snapshots that existed when a version was committed and are not its ancestors, separated by commas.
SIDE_SNAPSHOTS: Final = "lakefeed.side-snapshots"
# The snapshot of the column files of a version; empty if it has none. A version without this entry has its parent's.
COLUMN_SNAPSHOT: Final = "lakefeed.column-snapshot"
# The version has derived values of columns by writing the rows again; it adds and removes none.
DERIVED: Final = "lakefeed.derived"
# The summary of a snapshot of column files has this entry. Such a snapshot is not a version.
HAS_COLUMN_FILES: Final = "lakefeed.column-files"

# The branch of the newest snapshot of column files.
COLUMN_BRANCH: Final = "lakefeed.columns"

# Properties of every new table: they keep the numbers of manifests and of metadata files small.
TABLE_DEFAULTS: Final = {
    "commit.manifest-merge.enabled": "true",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "100",
}
