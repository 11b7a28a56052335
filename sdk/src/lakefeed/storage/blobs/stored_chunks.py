"""Contents that consist of chunks: whether a store has all of their parts.

The recipe of a content may be in the store without the chunks that it lists: a save failed between two packs, or a
collection of garbage has removed chunks that no version needed. So a content is stored only if all its parts are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from lakefeed.errors import IntegrityError, MissingFileError
from lakefeed.storage.blobs.content_reads import ContentReader
from lakefeed.storage.blobs.recipes import Recipe

FindContents = Callable[[Sequence[bytes]], set[bytes]]


class StoredChunks:
    """Answers for one save, and remembers which contents are complete.

    Args:
        contents: reads recipes and groups.
        find: returns those raw SHA-256 whose contents are stored themselves, not as recipes.
        only: the packs whose recipes count; None for all.
    """

    def __init__(self, contents: ContentReader, find: FindContents, only: Collection[str] | None = None) -> None:
        self._contents = contents
        self._find = find
        self._only = only
        self._complete: set[bytes] = set()

    def complete(self, digests: Iterable[bytes]) -> set[bytes]:
        """Returns those contents, by raw SHA-256, of which the store has a recipe and all parts."""
        for digest in digests:
            if digest not in self._complete and any(
                parts is not None and len(self._find(parts)) == len(parts) for _, parts in self.parts(digest)
            ):
                self._complete.add(digest)
        return self._complete.intersection(digests)

    def parts(self, digest: bytes) -> Iterator[tuple[Recipe, list[bytes] | None]]:
        """Yields the recipes of a content, and the raw SHA-256 of their parts; None if a group is missing."""
        try:
            recipes = self._contents.find_recipes(digest, self._only)
        except IntegrityError:
            return  # a damaged recipe is none
        for recipe in recipes:
            try:
                parts: list[bytes] | None = as_bytes(recipe.all_parts(self._contents.read))
            except (IntegrityError, MissingFileError):
                parts = None
            yield recipe, parts


def as_bytes(digests: NDArray[np.bytes_]) -> list[bytes]:
    """Returns the raw SHA-256 of an array. numpy drops trailing zero bytes."""
    return [digest.ljust(32, b"\0") for digest in digests.tolist()]
