"""The output of a whole plan at a place that the caller names, for later calls to find."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa

from lakefeed import _paths
from lakefeed.caching.atomic_folder import Folder, Group, Manifest
from lakefeed.caching.cache_files import fetch_files
from lakefeed.caching.plan_structure import identities, structure
from lakefeed.catalog.lake import Lake
from lakefeed.config import Settings
from lakefeed.errors import InvalidArgumentError
from lakefeed.ops import Scan
from lakefeed.plan import Lineage, Node, lineage
from lakefeed.run import LocalRunner
from lakefeed.run.progress import tracked
from lakefeed.run.rebatch import rebatch
from lakefeed.sources.mirror_source import MirrorSource

logger = logging.getLogger(__name__)

DIGEST_CHARS = 16


def cache_output(lake: Lake, plan: Node, path: str | os.PathLike[str], *, load_files: bool, overwrite: bool) -> Node:
    """The rows of ``plan`` as kept at ``path``, made now unless they are there.

    Raises:
        InvalidArgumentError: another plan's rows are there, or something else.
    """
    folder = Folder(Path(path).expanduser().absolute())
    _check_free(folder)
    with folder.locked():
        manifest = None if overwrite else folder.manifest()
        if manifest is None:
            manifest = _write(folder, lake, plan)
            shutil.rmtree(_pins(folder, lake.settings), ignore_errors=True)
        else:
            _check_same(folder, manifest, plan)
    source = _source(folder, manifest)
    if load_files:
        fetch_files(source, lake.blobs, lake.settings, _pins(folder, lake.settings))
    return Scan(source)


def _write(folder: Folder, lake: Lake, plan: Node) -> Manifest:
    settings = lake.settings

    def groups() -> Iterator[Group]:
        with closing(LocalRunner(settings).batches(plan)) as batches:
            for batch in rebatch(tracked(batches, f"cache {folder.path.name}"), settings.write.row_group_rows):
                yield Group(pa.Table.from_batches([batch], plan.schema))

    facts = {
        "structure": structure(plan),
        "sources": identities(plan),
        "identity": f"cache:{uuid.uuid4().hex}",
        "lineage": lineage(plan).to_json(),
    }
    return folder.write(plan.schema, plan.schema.names, groups, facts)


def _pins(folder: Folder, settings: Settings) -> Path:
    """Returns the folder where its files are pinned, on the file system of the cache."""
    return settings.cache / "pins" / hashlib.sha256(str(folder.path).encode()).hexdigest()[:DIGEST_CHARS]


def _check_free(folder: Folder) -> None:
    """Nothing of anybody else's is overwritten, whatever the caller says."""
    if _paths.exists(folder.path) and not _paths.is_folder(folder.path):
        raise InvalidArgumentError(f"cache(path={str(folder.path)!r}): there is a file; give the path of a folder")
    if _paths.is_folder(folder.path) and any(not _ours(path) for path in folder.path.iterdir()):
        raise InvalidArgumentError(
            f"cache(path={str(folder.path)!r}): the folder holds other files; give a new or empty one"
        )


def _ours(path: Path) -> bool:
    return path.name in ("manifest.json", "manifest.json.new", "lock") or path.match("rows-*.parquet")


def _check_same(folder: Folder, manifest: Manifest, plan: Node) -> None:
    held, ours = manifest.facts.get("structure"), structure(plan)
    if held is None or held != ours:
        raise InvalidArgumentError(
            f"cache(path={str(folder.path)!r}): the rows there are of another plan ({_difference(held or [], ours)}); "
            "choose another path, or pass overwrite=True"
        )
    if manifest.facts["sources"] != identities(plan):
        logger.warning(
            "%s holds rows of %s; the source has moved on to %s. overwrite=True makes it anew",
            folder.path,
            ", ".join(manifest.facts["sources"]),
            ", ".join(identities(plan)),
        )


def _difference(held: list[str], ours: list[str]) -> str:
    names = [[line.split()[0] for line in lines] for lines in (held, ours)]
    if names[0] != names[1]:
        return f"{' < '.join(names[0])} there, {' < '.join(names[1])} here"
    differing = [name for name, one, other in zip(names[0], held, ours, strict=True) if one != other]
    return f"{', '.join(differing)} with other arguments or columns"


def _source(folder: Folder, manifest: Manifest) -> MirrorSource:
    return MirrorSource(
        folder.path / manifest.file,
        manifest.schema,
        manifest.columns,
        manifest.facts["identity"],
        str(folder.path),
        Lineage.from_json(manifest.facts["lineage"]),
        manifest.parts,
    )
