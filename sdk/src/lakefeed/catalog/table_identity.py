"""Which table a version belongs to: numbers and names may come back, the uuid of a table does not."""

from __future__ import annotations

from lakefeed.catalog.lake import Lake
from lakefeed.catalog.tombstones import deletion_of_table
from lakefeed.catalog.versions import DatasetVersion, list_versions
from lakefeed.errors import VersionNotFoundError, quoted_list


def uuid_of(lake: Lake, name: str) -> str:
    """The uuid of the table that a dataset is now.

    Raises:
        DatasetNotFoundError: there is none.
    """
    return str(lake.table(name).metadata.table_uuid)


def recreated_error(lake: Lake, name: str, table_uuid: str) -> VersionNotFoundError:
    """The error for whoever relies on a table that is not the dataset any more."""
    table = lake.table(name)
    deletion = deletion_of_table(lake.deletions(name, str(table.metadata.table_uuid)), table_uuid)
    when = f" at {deletion.moment}" if deletion is not None else ""
    numbers = quoted_list(version.version for version in list_versions(table))
    return VersionNotFoundError(
        f"dataset {name!r} was deleted{when} and made again: what was read of the old one is gone. Dataset({name!r}) "
        f"reads the new one, whose versions, newest first, are {numbers}"
    )


def missing_version_error(lake: Lake, name: str, version: DatasetVersion) -> VersionNotFoundError:
    """The error that says what became of a version that was there.

    Raises:
        DatasetNotFoundError: the dataset is gone; the message says when it was deleted.
    """
    now = uuid_of(lake, name)
    if version.table_uuid and now != version.table_uuid:
        return recreated_error(lake, name, version.table_uuid)
    return VersionNotFoundError(
        f"{name!r} has no version {version.version} (snapshot {version.snapshot_id}) any more: it has expired"
        + ("" if version.table_uuid else ", or the dataset was deleted and made again")
    )
