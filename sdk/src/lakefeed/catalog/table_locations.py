"""Locations of tables outside the warehouse, which a table gets by ``root_uri``.

Each is a new folder below the root, so that files of several tables never mix. The namespace of the table records it
before a file is written: garbage collections list only the warehouse and these folders. In a lake with a SQLite catalog
the folder has an owner mark, because a copy of the catalog names the same folder.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchPropertyException

from lakefeed import _paths
from lakefeed._validate import check_text
from lakefeed.catalog.durability import local_path
from lakefeed.catalog.file_io import actual_location, open_io
from lakefeed.catalog.lake import Lake, new_location
from lakefeed.catalog.path_roots import plain_path
from lakefeed.catalog.properties import LOCATION_PREFIX
from lakefeed.catalog.sql_catalog import LakeSqlCatalog
from lakefeed.catalog.table_references import list_namespaces
from lakefeed.catalog.warehouse import open_folder
from lakefeed.errors import InvalidArgumentError, SharedWarehouseError, quoted_list
from lakefeed.storage.blobs.objects import ObjectInfo
from lakefeed.storage.disk.disk_errors import storage_errors
from lakefeed.storage.urls import redact

logger = logging.getLogger(__name__)

SCHEMES: Final = ("file", "s3", "s3a", "s3n", "gs", "abfs", "abfss", "oss", "hdfs")
MAX_LENGTH: Final = 800
"""A property of an SQL catalog holds 1,000 characters."""


def check_root(root_uri: Any) -> str:
    """Returns a root of tables: an absolute local path without ``file://``, or the URL of a folder in an object store.

    Raises:
        InvalidArgumentError: it is neither, or a local file is there.
        StorageError: the local folder cannot be made.
    """
    text = check_text(root_uri, "root_uri")
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "file", text
    shown = redact(text)
    if len(text) > MAX_LENGTH or re.search(r"[\x00-\x1f]", text):
        raise InvalidArgumentError(f"root_uri has more than {MAX_LENGTH} characters, or control characters")
    if scheme not in SCHEMES:
        raise InvalidArgumentError(
            f"root_uri {shown!r} has an unknown scheme; give an absolute path, or a URL such as s3://bucket/folder "
            f"(schemes: {quoted_list(SCHEMES)})"
        )
    path = plain_path(text)
    if path is None:
        if not rest.strip("/") or re.search("[?#@]", rest):
            raise InvalidArgumentError(f"root_uri {shown!r} must name a bucket and a folder, without '?', '#' or '@'")
        return text.rstrip("/")
    return str(_local_root(path, shown))


def _local_root(path: str, shown: str) -> Path:
    folder = Path(path).expanduser()
    # Parsed as a URL, a path with these characters ends there.
    if not folder.is_absolute() or ".." in folder.parts or re.search("[#?]", path):
        raise InvalidArgumentError(f"root_uri {shown!r} must be an absolute path without '..', '#' and '?'")
    if _paths.exists(folder) and not _paths.is_folder(folder):
        raise InvalidArgumentError(f"root_uri {shown!r} is a file; name a folder")
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def claim_location(lake: Lake, root: str, identifier: Sequence[str], suffix: str) -> str:
    """Returns a new location for a table below a root, after it was recorded.

    Raises:
        SharedWarehouseError: it belongs to another catalog.
    """
    location = new_location(root, identifier, suffix)
    namespace = tuple(identifier[:-1])
    lake.catalog.update_namespace_properties(namespace, updates={f"{LOCATION_PREFIX}{suffix}": location})
    if isinstance(lake.catalog, LakeSqlCatalog):
        lake.catalog.add_root(root)
    claim(lake, location)
    return location


def claim(lake: Lake, location: str) -> None:
    """Makes this lake the owner of a location outside the warehouse. Other catalogs do not record that.

    Raises:
        SharedWarehouseError: it belongs to another catalog.
    """
    if isinstance(lake.catalog, LakeSqlCatalog):
        lake.catalog.claim(location)


def forget_location(lake: Lake, location: str) -> None:
    """Removes the record of a location whose local folder is gone."""
    path = local_path(location)
    if path is None or path.exists():
        return
    for namespace, key, recorded in _records(lake):
        if recorded == location:
            lake.catalog.update_namespace_properties(namespace, removals={key})


def outside_locations(lake: Lake) -> list[str]:
    """Returns the recorded locations of tables outside the warehouse, also of dropped ones, that this lake owns."""
    return sorted({location for _, _, location in _records(lake) if _is_owner(lake, location)})


def _is_owner(lake: Lake, location: str) -> bool:
    try:
        claim(lake, location)
    except SharedWarehouseError as error:
        logger.info("leaving %s alone: %s", location, error)
        return False
    return True


def files_outside(lake: Lake) -> Iterator[ObjectInfo]:
    """Yields the files of tables outside the warehouse, by their locations."""
    for location in outside_locations(lake):
        io = open_io(lake.catalog.properties, {}, location)
        for info in open_folder(io, actual_location(io, location)).files():
            if info.key.startswith(("data/", "metadata/")):
                yield ObjectInfo(f"{location}/{info.key}", info.size, info.modified)


def remove_outside(lake: Lake, file: str) -> bool:
    """Removes a file of a table outside the warehouse; returns False if it is not one."""
    location = next((each for each in outside_locations(lake) if file.startswith(f"{each}/")), None)
    if location is None:
        return False
    io = open_io(lake.catalog.properties, {}, location)
    open_folder(io, actual_location(io, location)).remove(file.removeprefix(f"{location}/"))
    return True


def _records(lake: Lake) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Yields the namespace, the property and the location of each record."""
    for namespace in list_namespaces(lake):
        try:
            properties = lake.catalog.load_namespace_properties(namespace)
        except (NoSuchNamespaceError, NoSuchPropertyException):  # it was removed meanwhile
            continue
        for key, location in properties.items():
            if key.startswith(LOCATION_PREFIX):
                yield namespace, key, location
