"""Asset keys, names of ops and jobs, and versions as partition keys: ``3`` <-> ``"v3"``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence, Set
from itertools import dropwhile, takewhile

from dagster import AssetExecutionContext, AssetKey, DynamicPartitionsDefinition

from lakefeed.errors import InvalidArgumentError, quoted_list

SMALL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
CAPITALS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
ESCAPED = re.compile(r"x[0-9a-f]{4,}_")
KEY_PART = re.compile(r"[A-Za-z0-9_.-]+")
VERSION_KEY = re.compile(r"v([1-9][0-9]{0,17})")


def identifier(name: str) -> str:
    """Returns a name for Dagster's ops, jobs, schedules and checks, which allow only letters, digits and ``_``.

    Different names have different identifiers, even where capitals and small letters are the same. A name of small
    letters, digits and ``_`` is its own identifier. Other characters are escaped as in XML names: ``_x002d_`` is ``-``.

    Example:
        >>> identifier("my_data"), identifier("my-data")
        ('my_data', 'my_x002d_data')
    """
    escaped = _escape(name, SMALL)
    # After a prefix such as "ingest_", a leading "_" or escape of one name would be the start of another.
    leading = escaped[:1] == name[:1] and (name.startswith("_") or ESCAPED.match(escaped))
    return f"_x{ord(name[0]):04x}_{escaped[1:]}" if leading else escaped


def check_identifier(name: str) -> str:
    """Returns the name of an asset check. Unlike an `identifier`, it may have capitals.

    Example:
        >>> check_identifier("NoNight"), check_identifier("no night")
        ('NoNight', 'no_x0020_night')
    """
    return _escape(name, SMALL | CAPITALS)


def _escape(name: str, plain: Set[str]) -> str:
    escaped = ""
    for character in reversed(name):
        # An underscore that would read as the start of an escape is escaped itself.
        stays = character in plain or (character == "_" and not ESCAPED.match(escaped))
        escaped = (character if stays else f"_x{ord(character):04x}_") + escaped
    return escaped


def op_name(key: AssetKey) -> str:
    """Returns the name of the op that materializes an asset. Different assets have different ops.

    Example:
        >>> op_name(AssetKey(["datasets", "my_data"]))
        'datasets__my_data'
    """
    return "__".join(map(identifier, key.path))


def versions_of(dataset: str) -> DynamicPartitionsDefinition:
    """Returns the partitions of a dataset: one for each version, which the sensors add in order."""
    return DynamicPartitionsDefinition(name=f"{dataset}_versions")


def key_of(version: int) -> str:
    """Returns the partition key of a version.

    Example:
        >>> key_of(3)
        'v3'
    """
    return f"v{version}"


def version_of(key: str) -> int | None:
    """Returns the version of a partition key; None for a key that names no version, which a user has added.

    Example:
        >>> version_of("v3"), version_of("latest")
        (3, None)
    """
    match = VERSION_KEY.fullmatch(key)
    return int(match[1]) if match else None


def versions_in(keys: Iterable[str]) -> list[int]:
    """Returns the versions of partition keys, ascending, without keys that name no version."""
    return sorted(number for number in map(version_of, keys) if number is not None)


def first_adjacent(order: Iterable[str], wanted: Iterable[str]) -> Sequence[str]:
    """Returns the first keys of ``wanted`` that are adjacent in ``order``, so that one range names them.

    Example:
        >>> first_adjacent(["v1", "v2", "v3", "v4"], {"v2", "v3"})
        ['v2', 'v3']
    """
    chosen = set(wanted)
    return list(takewhile(chosen.__contains__, dropwhile(lambda key: key not in chosen, order)))


def requested_versions(context: AssetExecutionContext) -> list[int]:
    """Returns the versions that a run was started for, ascending. Partitions that name no version are left out.

    Raises:
        InvalidArgumentError: none of its partitions names a version.
    """
    others = [key for key in context.partition_keys if version_of(key) is None]
    versions = versions_in(context.partition_keys)
    if not versions:
        raise InvalidArgumentError(
            f"partition {others[0]!r} of {context.asset_key.to_user_string()!r} names no version: versions are named "
            "v1, v2, … and get their partitions from the sensors; delete a partition that was added by hand"
        )
    if others:
        context.log.warning("left out, for they name no version: %s", quoted_list(others))
    return versions


def dataset_key(name: str) -> AssetKey:
    """Returns the asset key of a dataset."""
    return AssetKey(["datasets", name])


def ingest_key(name: str) -> AssetKey:
    """Returns the asset key of an ingestion. Characters that Dagster does not allow in keys are escaped."""
    return AssetKey(["ingest", name if KEY_PART.fullmatch(name) else check_identifier(name)])


def routine_key(name: str) -> AssetKey:
    """Returns the asset key of a routine."""
    return AssetKey(["routines", name])
