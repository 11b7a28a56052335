"""The parts of reachable contents: chunks and groups, which no version names, but which recipes need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lakefeed.errors import IntegrityError, MissingFileError, quoted_list
from lakefeed.storage.blobs.content_reads import describe_range
from lakefeed.storage.blobs.objects import ObjectInfo, ObjectRange
from lakefeed.storage.blobs.packed_blobs import PackedBlobs
from lakefeed.storage.blobs.packs import FOLDER, PackEntries, is_pack_key, raw_digests, read_index
from lakefeed.storage.blobs.recipes import decode_recipe

Digests: TypeAlias = NDArray[np.bytes_]
Positions: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class ReachableRecipe:
    """A recipe of a reachable content.

    Attributes:
        pack: the key of its pack.
        digest: the raw SHA-256 of the content.
        parts: the digests of its chunks and groups, sorted; None if the recipe or a group of it cannot be read.
    """

    pack: str
    digest: bytes
    parts: Digests | None


class ChunkMarker:
    """Reads the indexes of all packs, and the recipes of reachable contents.

    Packs never change, so each is read once, however often the contents are marked.
    """

    def __init__(self, store: PackedBlobs) -> None:
        self._store = store
        self._packs: dict[str, tuple[ObjectInfo, PackEntries]] = {}
        self._recipes: dict[tuple[str, bytes], ReachableRecipe] = {}
        self.recipes: list[ReachableRecipe] = []

    @property
    def packs(self) -> list[tuple[ObjectInfo, PackEntries]]:
        """The packs that existed at the last mark, and their indexes."""
        return list(self._packs.values())

    def mark(self, reachable: Digests) -> Digests:
        """Returns the reachable digests with those of their parts, sorted and distinct.

        Raises:
            IntegrityError: the only recipe of a reachable content cannot be read, so its parts are unknown.
        """
        self._read_packs()
        self.recipes = [
            self._recipe(info.key, entry)
            for info, index in self.packs
            for entry in _reachable_recipes(index, reachable)
        ]
        self._check()
        parts = [recipe.parts for recipe in self.recipes if recipe.parts is not None]
        return np.unique(np.concatenate([reachable, *parts])) if parts else reachable

    def _read_packs(self) -> None:
        listed = {info.key: info for info in self._store.objects.list(FOLDER) if is_pack_key(info.key)}
        for key in self._packs.keys() - listed.keys():
            del self._packs[key]
        for key, info in listed.items():
            if key in self._packs:
                continue
            try:
                self._packs[key] = info, read_index(self._store.objects, info)
            except FileNotFoundError:
                continue  # deleted since it was listed

    def _recipe(self, key: str, entry: tuple[bytes, ObjectRange]) -> ReachableRecipe:
        digest, location = entry[0], entry[1]._replace(key=key)
        recipe = self._recipes.get((key, digest))
        if recipe is None or recipe.parts is None:
            recipe = self._recipes[key, digest] = ReachableRecipe(key, digest, self._read_parts(digest, location))
        return recipe

    def _read_parts(self, digest: bytes, location: ObjectRange) -> Digests | None:
        objects, contents = self._store.objects, self._store.contents
        try:
            data = objects.read(location.key, location.start, location.end)
            return decode_recipe(digest, data, describe_range(objects, location)).all_parts(contents.read)
        except (IntegrityError, MissingFileError):
            return None

    def _check(self) -> None:
        broken = {recipe.digest: recipe for recipe in self.recipes if recipe.parts is None}
        for recipe in self.recipes:
            if recipe.parts is not None:
                broken.pop(recipe.digest, None)
        lost = [recipe for recipe in broken.values() if not self._is_whole(recipe.digest)]
        if lost:
            packs = quoted_list(sorted({self._store.objects.url(recipe.pack) for recipe in lost}))
            raise IntegrityError(
                f"which chunks {len(lost)} blobs need is unknown, such as {lost[0].digest.hex()}, because their lists "
                f"in {packs} are damaged; nothing can be deleted. Restore these packs from a backup, or remove the "
                "versions that name the blobs"
            )

    def _is_whole(self, digest: bytes) -> bool:
        """Returns whether the store has a content itself, not as chunks."""
        if self._store.single_blobs.size(digest.hex()) is not None:
            return True
        needle = np.array([digest], "S32")
        return any(bool(np.isin(needle, index["sha256"][~index["is_recipe"]]).any()) for _, index in self.packs)


def _reachable_recipes(index: PackEntries, reachable: Digests) -> list[tuple[bytes, ObjectRange]]:
    recipes = index[index["is_recipe"]]
    recipes = recipes[find_positions(reachable, recipes["sha256"])[1]]
    positions = zip(raw_digests(recipes), recipes["offset"].tolist(), recipes["length"].tolist(), strict=True)
    return [(digest, ObjectRange("", start, length, True)) for digest, start, length in positions]


def find_positions(reachable: Digests, digests: Digests) -> tuple[Positions, NDArray[np.bool_]]:
    """Returns the positions in ``reachable`` of those digests that it has, and a mask of these digests."""
    if not len(reachable):
        return np.empty(0, np.int64), np.zeros(len(digests), bool)
    positions = np.searchsorted(reachable, digests)
    positions[positions == len(reachable)] = 0
    mask = reachable[positions] == digests
    return positions[mask], mask
