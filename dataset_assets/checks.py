"""The check that every dataset has: what a commit says it added can be read, and its files are there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dagster import AssetCheckResult, AssetCheckSpec, AssetKey

from dataset_assets.partitions import key_of
from dataset_assets.profile import Profile
from lakefeed.storage.blobs import BlobStore

READABLE = "readable"
LISTED = 10


def readable_spec(asset: AssetKey) -> AssetCheckSpec:
    return AssetCheckSpec(
        READABLE,
        asset=asset,
        description="The rows that the commit recorded are there, and so are their files.",
    )


def readable(asset: AssetKey, profiles: Sequence[Profile], store: BlobStore) -> AssetCheckResult:
    """Over all versions of a run: a check is evaluated once a run, so its metadata names the versions."""
    problems = [problem for each in profiles for problem in _problems(each, store)]
    return AssetCheckResult(
        check_name=READABLE,
        asset_key=asset,
        passed=not problems,
        metadata={
            "versions": ", ".join(key_of(each.version.version) for each in profiles),
            "rows_read": sum(each.rows or 0 for each in profiles),
            "files_looked_up": sum(len(each.digests) for each in profiles),
            "problems": "; ".join(problems[:LISTED]),
        },
    )


def _problems(found: Profile, store: BlobStore) -> Iterable[str]:
    version = found.version
    if found.rows is not None and found.rows != version.added_records:
        yield f"{key_of(version.version)}: {found.rows} rows read, {version.added_records} committed"
    for digest in found.digests:
        if not store.has(digest):
            yield f"{key_of(version.version)}: file {digest} is missing"
