"""The tables of the registry.

Immutable facts of a version are in its commit, and are copied here. Facts that change are here only. Rows refer to
records by uid, which is a function of the lake: so tables that were lost are filled again without touching the others.

Times are milliseconds since 1970 (UTC). Columns that end in ``json`` hold JSON as text.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

METADATA: Final = MetaData()
PREFIX: Final = "lakefeed_"

_ID = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only if the column is an INTEGER."""


class Presence(IntEnum):
    """The state of the content of a record.

    GONE: its version expired or was deleted; the record stays, so that lineage names it. PENDING: the commit that it
    belongs to has not been seen.
    """

    PRESENT = 0
    DATASET_IN_TRASH = 1
    GONE = 2
    PENDING = 3


META: Final = Table(
    f"{PREFIX}meta",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""Facts of the registry itself: the number of its layout."""

SYNCED: Final = Table(
    f"{PREFIX}synced",
    METADATA,
    Column("namespace", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("location", Text),  # of the metadata that was read last; null if it could not be read
    Column("table_uuid", Text),
    Column("error", Text),
    PrimaryKeyConstraint("namespace", "name"),
    Index(f"{PREFIX}synced_uuid", "table_uuid"),
)
"""The metadata of each table of the catalog that was read last."""

USER: Final = Table(
    f"{PREFIX}user",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("created", BigInteger, nullable=False),
)

TRANSFORM: Final = Table(
    f"{PREFIX}transform",
    METADATA,
    Column("uid", Text, primary_key=True),
    Column("key", Text, nullable=False),  # the path of a script, the name of a routine or a pipeline
    Column("version", Text, nullable=False, server_default=""),
    Column("kind", Text, nullable=False, server_default="script"),
    Column("name", Text),
    Column("description", Text),
    Column("code_sha256", Text),
    Column("code_json", Text),  # repository, commit, dirty flag, packages
    Column("user", Text),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    UniqueConstraint("key", "version"),
)

RUN: Final = Table(
    f"{PREFIX}run",
    METADATA,
    Column("uid", Text, primary_key=True),
    Column("external", Text, unique=True),  # the text in the commits of its versions, such as "dagster:<run id>"
    Column("name", Text),
    Column("transform", Text),
    Column("status", Text, nullable=False, server_default="unknown"),
    Column("params_json", Text),
    Column("facts_json", Text),
    Column("user", Text),
    Column("parent", Text),
    Column("started", BigInteger),
    Column("finished", BigInteger),
    Column("created", BigInteger, nullable=False),
    Index(f"{PREFIX}run_transform", "transform"),
    Index(f"{PREFIX}run_parent", "parent"),
    Index(f"{PREFIX}run_created", "created"),
)

PROCESS: Final = Table(
    f"{PREFIX}process",
    METADATA,
    Column("run", Text, nullable=False),
    Column("machine", Text, nullable=False),  # see `lakefeed.storage.disk.process_identity`
    Column("pid", BigInteger, nullable=False),
    Column("began", BigInteger, nullable=False),
    Column("host", Text),
    Column("at", BigInteger, nullable=False),  # of its last write
    PrimaryKeyConstraint("run", "machine", "pid", "began"),
)
"""The processes of runs that have not ended."""

RECORD: Final = Table(
    f"{PREFIX}record",
    METADATA,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("uid", Text, nullable=False, unique=True),
    # What queries read of every row comes first: SQLite reads a row up to the last column that it needs.
    Column("visibility", SmallInteger, nullable=False, server_default="0"),
    Column("presence", SmallInteger, nullable=False, server_default="0"),
    Column("latest", Boolean, nullable=False, server_default="0"),
    Column("search_text", Text, nullable=False, server_default=""),  # see `search_text`
    Column("stem", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),  # see `RecordKind`
    Column("name", Text),
    Column("description", Text),
    Column("label", Text),  # the label of the version within its chain
    Column("hash", Text),
    Column("size", BigInteger),  # bytes
    Column("n", BigInteger),  # rows
    Column("namespace", Text),
    Column("table", Text),
    Column("table_uuid", Text),
    Column("snapshot", BigInteger),
    Column("tree_id", Text),
    Column("sha256", Text),  # the content of a file
    Column("suffix", Text),
    Column("key", Text),
    Column("url", Text),
    Column("reference", Text),
    Column("reference_type", Text),
    Column("run", Text),
    Column("user", Text),
    Column("published", Boolean, nullable=False, server_default="0"),
    Column("token", Text),
    Column("facts_json", Text),  # the entry `lakefeed.record` of the commit
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Index(f"{PREFIX}record_stem", "stem", "revision"),
    Index(f"{PREFIX}record_table", "table_uuid", "revision"),
    Index(f"{PREFIX}record_listed", "kind", "presence", "visibility", "created"),
    Index(f"{PREFIX}record_created", "created"),
    Index(f"{PREFIX}record_name", "name"),
    Index(f"{PREFIX}record_hash", "hash"),
    Index(f"{PREFIX}record_run", "run"),
    Index(f"{PREFIX}record_sha256", "sha256"),
    Index(f"{PREFIX}record_token", "token"),
)

INPUT: Final = Table(
    f"{PREFIX}input",
    METADATA,
    Column("run", Text, nullable=False),
    Column("record", Text, nullable=False),
    Column("from_revision", BigInteger),  # a routine read the rows that were added after this version
    Column("plan", Text),
    Column("seed", BigInteger),
    Column("epoch", BigInteger),
    Column("at", BigInteger),
    PrimaryKeyConstraint("run", "record"),
    Index(f"{PREFIX}input_record", "record"),
)
"""The versions that a run has read."""

PARENT: Final = Table(
    f"{PREFIX}parent",
    METADATA,
    Column("child", Text, nullable=False),
    Column("parent", Text, nullable=False),
    Column("ordinal", BigInteger, nullable=False, server_default="0"),
    PrimaryKeyConstraint("child", "ordinal", "parent"),
    Index(f"{PREFIX}parent_parent", "parent"),
)
"""The records that a record consists of, or was merged from, in this order: a dataset of files has its files."""

TABLE: Final = Table(
    f"{PREFIX}table",
    METADATA,
    Column("uuid", Text, primary_key=True),
    Column("stem", Text, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("first_name", Text),  # of a dataset that was renamed
    Column("presence", SmallInteger, nullable=False, server_default="0"),
    Column("location", Text, nullable=False, server_default=""),  # the folder
    Column("schemas_json", Text),  # the names and types of the columns, by the id of the schema
    Index(f"{PREFIX}table_stem", "stem"),
    Index(f"{PREFIX}table_name", "namespace", "name"),
    Index(f"{PREFIX}table_first_name", "first_name"),
)
"""The datasets of the lake. Those that were deleted stay, so that lineages name them."""

ORIGIN: Final = Table(
    f"{PREFIX}origin",
    METADATA,
    Column("table_uuid", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("snapshot", BigInteger, nullable=False),
    Column("run", Text),  # as the commit names it
    Column("json", Text, nullable=False),  # see `lakefeed.records.origin_facts`
    PrimaryKeyConstraint("table_uuid", "revision"),
    Index(f"{PREFIX}origin_snapshot", "snapshot"),
    Index(f"{PREFIX}origin_run", "run"),
)
"""The origins of versions, as their commits tell them, for lineages. A version that has expired keeps its row."""

UPSTREAM: Final = Table(
    f"{PREFIX}upstream",
    METADATA,
    Column("table_uuid", Text, nullable=False),
    Column("source", Text, nullable=False),  # the uuid of a table, "name:…" of a dataset, or "snapshot:…"
    PrimaryKeyConstraint("table_uuid", "source"),
    Index(f"{PREFIX}upstream_source", "source"),
)
"""The sources of all versions of a table, so that a lineage reads only tables that are connected."""

LABEL: Final = Table(
    f"{PREFIX}label",
    METADATA,
    Column("uid", Text, primary_key=True),
    Column("kind", Text, nullable=False, server_default=""),  # the type of the label, such as "organism"
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("parent", Text),
    Column("user", Text),
    Column("search_text", Text, nullable=False, server_default=""),  # the folded name
    Column("created", BigInteger, nullable=False),
    UniqueConstraint("kind", "name"),
    Index(f"{PREFIX}label_name", "name"),
)

RECORD_LABEL: Final = Table(
    f"{PREFIX}record_label",
    METADATA,
    Column("record", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("feature", Text, nullable=False, server_default=""),
    PrimaryKeyConstraint("record", "label", "feature"),
    Index(f"{PREFIX}record_label_label", "label", "record"),
)

FEATURE: Final = Table(
    f"{PREFIX}feature",
    METADATA,
    Column("uid", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("dtype", Text),
    Column("unit", Text),
    Column("label_type", Text),
    Column("description", Text),
    Column("user", Text),
    Column("created", BigInteger, nullable=False),
)

FEATURE_SET: Final = Table(
    f"{PREFIX}feature_set",
    METADATA,
    Column("uid", Text, primary_key=True),
    Column("hash", Text, nullable=False, unique=True),
    Column("name", Text),
    Column("n", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
)

FEATURE_SET_MEMBER: Final = Table(
    f"{PREFIX}feature_set_member",
    METADATA,
    Column("feature_set", Text, nullable=False),
    Column("feature", Text, nullable=False),
    Column("ordinal", Integer, nullable=False),
    PrimaryKeyConstraint("feature_set", "feature"),
    Index(f"{PREFIX}feature_set_member_feature", "feature"),
)

RECORD_FEATURE_SET: Final = Table(
    f"{PREFIX}record_feature_set",
    METADATA,
    Column("record", Text, nullable=False),
    Column("slot", Text, nullable=False),
    Column("feature_set", Text, nullable=False),
    PrimaryKeyConstraint("record", "slot"),
    Index(f"{PREFIX}record_feature_set_set", "feature_set"),
)

FACT: Final = Table(
    f"{PREFIX}fact",
    METADATA,
    Column("record", Text, nullable=False),  # the uid of a record or of a run
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("json", Text),
    Column("sha256", Text),  # a content of the blob store, which garbage collections keep
    Column("at", BigInteger, nullable=False),
    PrimaryKeyConstraint("record", "name"),
    Index(f"{PREFIX}fact_sha256", "sha256"),
)

CLAIM: Final = Table(
    f"{PREFIX}claim",
    METADATA,
    Column("hash", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("renewed", Float, nullable=False),  # seconds
    PrimaryKeyConstraint("hash", "kind"),
)
"""The contents that processes are saving now."""
