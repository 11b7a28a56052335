"""Reads many contents of a store at once: neighbours in a pack together, each verified."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, Final

from lakefeed._units import KIB, MIB
from lakefeed.errors import IntegrityError, MissingFileError
from lakefeed.storage.blobs.objects import ObjectRange, Objects
from lakefeed.storage.blobs.pack_index import PackIndex
from lakefeed.storage.blobs.recipes import Recipe, decode_recipe

GAP_BYTES: Final = 256 * KIB
"""Other bytes up to this length are read too, because another request would take longer."""
READ_BYTES: Final = 8 * MIB
MAX_LOOKUPS: Final = 5


def group_ranges(ranges: Iterable[tuple[bytes, ObjectRange]]) -> Iterator[list[tuple[bytes, ObjectRange]]]:
    """Yields contents in groups that are read at once, each of one object and sorted by position."""
    by_key: defaultdict[str, list[tuple[bytes, ObjectRange]]] = defaultdict(list)
    for digest, location in ranges:
        by_key[location.key].append((digest, location))
    for entries in by_key.values():
        entries.sort(key=lambda entry: entry[1].start)
        group: list[tuple[bytes, ObjectRange]] = []
        for digest, location in entries:
            if group:
                first, last = group[0][1], group[-1][1]
                if location.start - last.end > GAP_BYTES or location.end - first.start > READ_BYTES:
                    yield group
                    group = []
            group.append((digest, location))
        yield group


def read_group(objects: Objects, group: Sequence[tuple[bytes, ObjectRange]]) -> Iterator[tuple[bytes, bytes]]:
    """Yields the contents of a group of `group_ranges` by raw SHA-256. They are not verified.

    Raises:
        FileNotFoundError: the object was deleted.
    """
    first, last = group[0][1], group[-1][1]
    data = objects.read(first.key, first.start, last.end)
    for digest, location in group:
        start = location.start - first.start
        yield digest, data[start : start + location.length]


@dataclass(frozen=True)
class ContentReader:
    """Reads contents and recipes by raw SHA-256. Safe between threads.

    Attributes:
        objects: the objects of the store.
        index: the index of its packs.
        open_single: opens a stand-alone blob.
    """

    objects: Objects
    index: PackIndex
    open_single: Callable[[str], BinaryIO]

    def read_all(self, digests: Collection[bytes], verify: bool = True) -> dict[bytes, bytes]:
        """Returns contents; the result lacks those that the store does not have.

        Raises:
            IntegrityError: a content is damaged, in all copies.
        """
        contents: dict[bytes, bytes] = {}
        missing = list(dict.fromkeys(digests))
        for _ in range(MAX_LOOKUPS):
            seen, ranges = self.index.refresh_count, self._find(missing)
            with suppress(FileNotFoundError, NotADirectoryError):  # a collection has moved the contents
                damaged: dict[bytes, ObjectRange] = {}
                for group in group_ranges(ranges.items()):
                    for digest, data in read_group(self.objects, group):
                        if len(data) != ranges[digest].length or (verify and not _fits(digest, data)):
                            damaged[digest] = ranges[digest]
                        else:
                            contents[digest] = data
                self._require_other_copies(damaged)
            missing = [digest for digest in missing if digest not in contents]
            for digest in [digest for digest in missing if digest not in ranges]:
                with suppress(FileNotFoundError, NotADirectoryError):
                    contents[digest] = self._read_single(digest)
            missing = [digest for digest in missing if digest not in contents]
            if not missing:
                break
            self.index.refresh(seen)
            if not any(digest in ranges for digest in missing) and not self._find(missing):
                break
        return contents

    def read(self, digest: bytes) -> bytes:
        """Returns a verified content.

        Raises:
            MissingFileError: the store does not have it.
            IntegrityError: it is damaged.
        """
        contents = self.read_all([digest])
        if digest not in contents:
            raise MissingFileError(f"the blob store has no blob with sha256 {digest.hex()}")
        return contents[digest]

    def find_recipes(self, digest: bytes, only: Collection[str] | None = None) -> list[Recipe]:
        """Returns the recipes of a content that can be read. Considers only the packs ``only`` if that is given.

        Raises:
            IntegrityError: there are recipes, and all are damaged.
        """
        recipes: list[Recipe] = []
        damage: IntegrityError | None = None
        for location in self.index.find_recipes(digest, only):
            try:
                data = self.objects.read(location.key, location.start, location.end)
                recipe = decode_recipe(digest, data, describe_range(self.objects, location))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except IntegrityError as error:
                damage = error
            else:
                if recipe not in recipes:
                    recipes.append(recipe)
        if damage is not None and not recipes:
            raise damage
        return recipes

    def _find(self, digests: Sequence[bytes]) -> Mapping[bytes, ObjectRange]:
        locations = self.index.find_all(digests)
        return {digest: location for digest, location in locations.items() if not location.is_recipe}

    def _require_other_copies(self, damaged: Mapping[bytes, ObjectRange]) -> None:
        """Records damaged copies, so that the next look-up returns others.

        Raises:
            IntegrityError: there are no others.
        """
        for location in damaged.values():
            self.index.mark_damaged(location.copy)
        others = self.index.find_sound(list(damaged))
        for digest, location in damaged.items():
            if digest not in others:
                raise _damage_error(self.objects, digest, location)

    def _read_single(self, digest: bytes) -> bytes:
        with self.open_single(digest.hex()) as stream:
            data = stream.read()
        if not _fits(digest, data):
            raise IntegrityError(f"the blob with sha256 {digest.hex()} is damaged: it holds other bytes")
        return data


def describe_range(objects: Objects, location: ObjectRange) -> str:
    """Returns the URL of an object with the range of bytes in it."""
    kind = "recipe" if location.is_recipe else "bytes"
    return f"{objects.url(location.key)}#{kind}={location.start}-{location.end - 1}"


def _fits(digest: bytes, data: bytes) -> bool:
    return hashlib.sha256(data).digest() == digest


def _damage_error(objects: Objects, digest: bytes, location: ObjectRange) -> IntegrityError:
    return IntegrityError(
        f"{describe_range(objects, location)} holds other bytes than were saved: its SHA-256 is not {digest.hex()}"
    )
