"""Snapshots of datasets on local disk: ``<cache>/datasets/<name>/<snapshot id>/<columns>/``.

A snapshot never changes, so its mirror needs no invalidation: a newer snapshot has a mirror of its own. A mirror is
found without the catalog, by the name and the version that it holds.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa

from lakefeed.caching.atomic_folder import Folder, Group, Manifest
from lakefeed.caching.cache_files import fetch_files
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.table_identity import uuid_of
from lakefeed.config import Settings
from lakefeed.errors import DatasetNotFoundError, VersionNotFoundError
from lakefeed.ops import Scan
from lakefeed.optimize import optimize
from lakefeed.plan import Fragment, Lineage, Node, Origin, Pushdown, Source
from lakefeed.plan.walk import nodes, transform
from lakefeed.run.prefetch import read_ahead
from lakefeed.run.progress import tracked
from lakefeed.sources.mirror_source import MirrorSource

logger = logging.getLogger(__name__)

EVERYTHING = "all"
DIGEST_CHARS = 16


def mirrored(lake: Lake, plan: Node, *, load_files: bool) -> Node:
    """The plan with every snapshot that it reads mirrored; what stands above is run again as before."""
    needed = _needed(plan)
    mirrors = {
        source.identity: _mirror(lake, source, columns, load_files=load_files) for source, columns in needed.values()
    }

    def replaced(node: Node) -> Node:
        if isinstance(node, Scan) and node.source.identity in mirrors:
            return Scan(mirrors[node.source.identity], node.pushdown)
        return node

    return transform(plan, replaced)


def mirrored_dataset(lake: Lake, name: str, version: int | None, plan: Callable[[], Node], *, load_files: bool) -> Node:
    """As `mirrored` for a dataset by its name; where the catalog cannot tell, by the mirrors that there are.

    Raises:
        DatasetNotFoundError, VersionNotFoundError: it is neither in the lake nor mirrored.
    """
    try:
        current = plan()
    except _unreachable() as error:
        # Where the dataset is there without the version, only rows of that very table will do.
        there = uuid_of(lake, name) if isinstance(error, VersionNotFoundError) else None
        mirror = _newest(lake.settings, name, version, there)
        if mirror is None:
            raise
        folder, manifest = mirror
        logger.warning(
            "%s cannot be looked up (%s): its local mirror of version %s is used",
            name,
            type(error).__name__,
            _origin(manifest).version,
        )
        source = _source(folder, manifest)
        if load_files:
            fetch_files(source, lake.blobs, lake.settings, _pins(folder))
        return Scan(source)
    return mirrored(lake, current, load_files=load_files)


def _unreachable() -> tuple[type[Exception], ...]:
    """The errors of a catalog that is gone, or cannot be reached."""
    from pyiceberg.exceptions import RESTError
    from sqlalchemy.exc import SQLAlchemyError

    return DatasetNotFoundError, VersionNotFoundError, OSError, RESTError, SQLAlchemyError


def _needed(plan: Node) -> dict[str, tuple[Source, frozenset[str]]]:
    """The sources of a plan that a mirror is of use for, each with the columns of it that are needed."""
    needed: dict[str, tuple[Source, frozenset[str]]] = {}
    for node in nodes(optimize(plan)):
        source = node.leaf_source
        if source is not None and source.mirror_key is not None:
            _, before = needed.get(source.identity, (source, frozenset()))
            needed[source.identity] = (source, before | frozenset(node.schema.names))
    return needed


def _mirror(lake: Lake, source: Source, columns: frozenset[str], *, load_files: bool) -> MirrorSource:
    parent = _place(lake.settings, source)
    match = _with_columns(parent, columns)
    if match is None:
        folder = Folder(parent / _columns_key(columns, source.schema))
        with folder.locked():
            # Another process may have been faster.
            manifest = folder.manifest() or folder.write(
                source.schema, columns, lambda: _groups(source, columns, lake.settings), _facts(lake.settings, source)
            )
        match = (folder, manifest)
    mirror = _source(*match)
    if load_files:
        fetch_files(mirror, lake.blobs, lake.settings, _pins(match[0]))
    return mirror


def _pins(folder: Folder) -> Path:
    """The folder where its files are pinned. They are removed with the mirror."""
    return folder.path / "files"


def _place(settings: Settings, source: Source) -> Path:
    assert source.mirror_key is not None, "it was chosen for a mirror"
    return settings.cache / "datasets" / source.mirror_key


def _columns_key(columns: frozenset[str], schema: pa.Schema) -> str:
    if columns >= set(schema.names):
        return EVERYTHING
    return hashlib.sha256("\0".join(sorted(columns)).encode()).hexdigest()[:DIGEST_CHARS]


def _with_columns(parent: Path, columns: frozenset[str]) -> tuple[Folder, Manifest] | None:
    """A mirror that has the columns, and perhaps more."""
    for path in sorted(parent.glob("*/")):
        manifest = Folder(path).manifest()
        if manifest is not None and manifest.columns >= columns:
            return Folder(path), manifest
    return None


def _newest(
    settings: Settings, name: str, version: int | None, table_uuid: str | None
) -> tuple[Folder, Manifest] | None:
    """The mirror of all columns of this dataset of this lake: of the version, or of the newest that there is.

    Of several tables that had the name, it is one of ``table_uuid``; None: of the table that was mirrored last.
    """
    candidates: list[tuple[Folder, Manifest, Origin]] = []
    for path in sorted((settings.cache / "datasets" / name).glob(f"*/{EVERYTHING}/"), key=_written):
        manifest = Folder(path).manifest()
        if manifest is None or manifest.facts["catalog"] != _catalog(settings):
            continue
        origin = _origin(manifest)
        if origin.from_version is None and (version is None or (origin.version, origin.schema_id) == (version, None)):
            candidates.append((Folder(path), manifest, origin))
    table = table_uuid or (candidates[-1][2].table_uuid if candidates else "")
    of_table = [each for each in candidates if each[2].table_uuid == table]
    return max(of_table, key=lambda each: (each[2].version, each[2].schema_id or 0))[:2] if of_table else None


def _written(path: Path) -> int:
    """When a mirror became complete; those that are not come first."""
    try:
        return (path / "manifest.json").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _origin(manifest: Manifest) -> Origin:
    """The snapshot that a mirror holds."""
    (origin,) = Lineage.from_json(manifest.facts["lineage"]).origins
    return origin


def _facts(settings: Settings, source: Source) -> dict[str, Any]:
    return {
        "catalog": _catalog(settings),
        "lineage": source.lineage.to_json(),
        # Rows that only PyIceberg can read have no fragments there, hence another order here.
        "identity": source.identity if source.ranged else f"{source.identity}+mirror",
        "location": source.location,
    }


def _catalog(settings: Settings) -> str:
    return f"{settings.catalog_uri}#{settings.catalog.namespace}"


def _source(folder: Folder, manifest: Manifest) -> MirrorSource:
    return MirrorSource(
        folder.path / manifest.file,
        manifest.schema,
        manifest.columns,
        manifest.facts["identity"],
        manifest.facts["location"],
        Lineage.from_json(manifest.facts["lineage"]),
        manifest.parts,
    )


def _groups(source: Source, columns: frozenset[str], settings: Settings) -> Iterator[Group]:
    names = tuple(name for name in source.schema.names if name in columns)
    pushdown = Pushdown(columns=names)
    schema = pa.schema([source.schema.field(name) for name in names])

    def read(fragment: Fragment) -> Group:
        rows = pa.Table.from_batches(list(source.read(fragment, pushdown)), schema)
        return Group(rows, None if fragment.rows is None else fragment.size)

    ahead = read_ahead(source.fragments(pushdown), read, settings.read, lambda fragment: fragment.size)
    with closing(ahead):
        yield from tracked(ahead, f"cache {source.location}", source.count())
