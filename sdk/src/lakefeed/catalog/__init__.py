"""The catalog of datasets: names, versions, files, and the commits that make them."""

from lakefeed.catalog.action import Fence, Provenance, fence_value
from lakefeed.catalog.commit import append, create, update_properties
from lakefeed.catalog.files import DataFileRef, added_files, data_files
from lakefeed.catalog.fit import cast, check_fits
from lakefeed.catalog.lake import Lake, check_name
from lakefeed.catalog.schema import column_types, declared_schema, storage_schema
from lakefeed.catalog.versions import DatasetVersion, list_versions, resolve, versions_between

__all__ = [
    "DataFileRef",
    "DatasetVersion",
    "Fence",
    "Lake",
    "Provenance",
    "added_files",
    "append",
    "cast",
    "check_fits",
    "check_name",
    "column_types",
    "create",
    "data_files",
    "declared_schema",
    "fence_value",
    "list_versions",
    "resolve",
    "storage_schema",
    "update_properties",
    "versions_between",
]
