"""The list of the files of a local copy, which lies beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa

from lakefeed.trees.external_files import ExternalFile

TREE: Final = "tree"
MANIFEST: Final = "manifest.arrow"
_FIELDS: list[pa.Field[Any]] = [
    pa.field("path", pa.string()),
    pa.field("sha256", pa.string()),
    pa.field("size", pa.int64()),
    pa.field("executable", pa.bool_()),
]
MANIFEST_SCHEMA: Final = pa.schema(_FIELDS)
BYTES: Final = b"bytes"


class CopiedFile(NamedTuple):
    """A file of a copy.

    Attributes:
        path: the path in the tree.
        sha256: the content; of an external file, a text that its URL and tag give.
        size: the size in bytes; -1 if it is unknown.
        executable: whether the owner may execute it.
        external: the file elsewhere; None for a content of the store.
    """

    path: str
    sha256: str
    size: int
    executable: bool
    external: ExternalFile | None = None

    @property
    def inode_key(self) -> tuple[str, bool]:
        """Files of equal keys may share an inode."""
        return self.sha256, self.executable


def write_manifest(path: Path, files: Sequence[CopiedFile], size: int) -> None:
    """Writes the list of the files of a copy, and the bytes that it takes."""
    columns: Mapping[str, Any] = {name: [getattr(file, name) for file in files] for name in MANIFEST_SCHEMA.names}
    schema = MANIFEST_SCHEMA.with_metadata({BYTES: str(size)})
    with pa.OSFile(str(path), "wb") as target, pa.ipc.new_file(target, schema) as writer:
        writer.write_table(pa.table(columns, schema=schema))


def read_manifest(folder: Path) -> list[CopiedFile]:
    """Returns the files of a copy; none if the list was removed or damaged."""
    try:
        with pa.OSFile(str(folder / MANIFEST), "rb") as source:
            table = pa.ipc.open_file(source).read_all()
    except (OSError, pa.ArrowInvalid):
        return []
    return [CopiedFile(*row) for row in zip(*(table[name].to_pylist() for name in MANIFEST_SCHEMA.names), strict=True)]


def manifest_bytes(folder: Path) -> int:
    """Returns the bytes of the files of a copy; 0 if the list was removed or damaged."""
    try:
        with pa.OSFile(str(folder / MANIFEST), "rb") as source:
            metadata = pa.ipc.open_file(source).schema.metadata or {}
    except (OSError, pa.ArrowInvalid):
        return 0
    return int(metadata.get(BYTES, b"0"))
