"""Stores large contents as chunks, of which those that are stored already are not written again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import BinaryIO, Protocol

from lakefeed.storage.blobs.chunking import cut
from lakefeed.storage.blobs.recipes import make_recipe


class ChunkTarget(Protocol):
    """A writer of contents, by raw SHA-256."""

    def find_known(self, digests: Sequence[bytes]) -> set[bytes]: ...
    def add(self, contents: Mapping[bytes, bytes | memoryview], are_recipes: bool = False) -> None: ...


def write_chunks(source: BinaryIO, target: ChunkTarget) -> tuple[bytes, int]:
    """Stores the rest of a stream as chunks and a recipe. Reads it once. Returns its raw SHA-256 and its size."""
    whole = hashlib.sha256()
    chunks: list[tuple[bytes, int]] = []
    for piece, views in cut(source):
        whole.update(piece)
        digests = [hashlib.sha256(view).digest() for view in views]
        chunks += zip(digests, map(len, views), strict=True)
        _add_unknown(dict(zip(digests, views, strict=True)), target)
    digest = whole.digest()
    if len(chunks) > 1 and not target.find_known([digest]):
        recipe, groups = make_recipe(digest, chunks)
        _add_unknown(groups, target)
        target.add({digest: recipe.encode()}, are_recipes=True)  # last, so that its chunks are in earlier packs
    return digest, sum(length for _, length in chunks)


def _add_unknown(contents: Mapping[bytes, bytes | memoryview], target: ChunkTarget) -> None:
    known = target.find_known(list(contents))
    unknown = {digest: data for digest, data in contents.items() if digest not in known}
    if unknown:
        target.add(unknown)
