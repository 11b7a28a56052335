"""The identity of tables. Names and version numbers may be used again; the uuid of a table is unique."""

from __future__ import annotations

from lakefeed.catalog.lake import Lake
from lakefeed.catalog.tombstones import deletion_of_table
from lakefeed.catalog.versions import DatasetVersion, list_versions
from lakefeed.errors import VersionNotFoundError, quoted_list


def uuid_of(lake: Lake, name: str) -> str:
    """Returns the uuid of the current table of a dataset.

    Raises:
        DatasetNotFoundError: the dataset does not exist.
    """
    return str(lake.table(name).metadata.table_uuid)


def recreated_error(lake: Lake, name: str, table_uuid: str) -> VersionNotFoundError:
    """Returns the error for a reader of a table that was deleted and created again."""
    table = lake.table(name)
    deletion = deletion_of_table(lake.deletions(name, str(table.metadata.table_uuid)), table_uuid)
    when = deletion.event if deletion is not None else "deleted"
    numbers = quoted_list(version.version for version in list_versions(table))
    return VersionNotFoundError(
        f"dataset {name!r} was {when} and created again; the old versions are gone. Dataset({name!r}) reads the "
        f"new one; its versions, newest first, are {numbers}"
    )


def missing_version_error(lake: Lake, name: str, version: DatasetVersion) -> VersionNotFoundError:
    """Returns the error for a version that existed.

    Raises:
        DatasetNotFoundError: the dataset was deleted.
    """
    if version.table_uuid and uuid_of(lake, name) != version.table_uuid:
        return recreated_error(lake, name, version.table_uuid)
    return VersionNotFoundError(
        f"version {version.version} (snapshot {version.snapshot_id}) of {name!r} has expired"
        + ("" if version.table_uuid else ", or the dataset was deleted and created again")
    )
