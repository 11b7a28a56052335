"""The catalog of datasets: names, versions, files, and the commits that make them."""

from typing import TYPE_CHECKING

from lakefeed._lazy import lazy_attributes

if TYPE_CHECKING:
    from lakefeed.catalog.action import Fence, Provenance, fence_value
    from lakefeed.catalog.commit import append, create, update_properties
    from lakefeed.catalog.compatibility import cast, check_compatible
    from lakefeed.catalog.deltas import added_rows, net_rows, removed_rows
    from lakefeed.catalog.edit_commit import Draft, edit
    from lakefeed.catalog.file_refs import DataFileRef, Delta
    from lakefeed.catalog.lake import Lake, check_name
    from lakefeed.catalog.restore_commit import restore
    from lakefeed.catalog.schema import column_types, declared_schema, storage_schema
    from lakefeed.catalog.schema_evolution import add_column, drop_columns, rename_column, widen_column
    from lakefeed.catalog.version_files import data_files
    from lakefeed.catalog.version_tags import tag, tags, untag
    from lakefeed.catalog.versions import DatasetVersion, list_versions, resolve, versions_between

__all__ = [
    "DataFileRef",
    "DatasetVersion",
    "Delta",
    "Draft",
    "Fence",
    "Lake",
    "Provenance",
    "add_column",
    "added_rows",
    "append",
    "cast",
    "check_compatible",
    "check_name",
    "column_types",
    "create",
    "data_files",
    "declared_schema",
    "drop_columns",
    "edit",
    "fence_value",
    "list_versions",
    "net_rows",
    "removed_rows",
    "rename_column",
    "resolve",
    "restore",
    "storage_schema",
    "tag",
    "tags",
    "untag",
    "update_properties",
    "versions_between",
    "widen_column",
]

if not TYPE_CHECKING:  # else a type checker would take any name
    __getattr__ = lazy_attributes(
        __name__,
        {
            "action": ("Fence", "Provenance", "fence_value"),
            "deltas": ("added_rows", "net_rows", "removed_rows"),
            "file_refs": ("DataFileRef", "Delta"),
            "commit": ("append", "create", "update_properties"),
            "edit_commit": ("Draft", "edit"),
            "restore_commit": ("restore",),
            "schema_evolution": ("add_column", "drop_columns", "rename_column", "widen_column"),
            "version_files": ("data_files",),
            "compatibility": ("cast", "check_compatible"),
            "lake": ("Lake", "check_name"),
            "schema": ("column_types", "declared_schema", "storage_schema"),
            "version_tags": ("tag", "tags", "untag"),
            "versions": ("DatasetVersion", "list_versions", "resolve", "versions_between"),
        },
    )
