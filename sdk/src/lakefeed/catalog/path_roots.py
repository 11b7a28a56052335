"""Path roots: the recorded folders of local files in metadata, and their actual folders.

Iceberg metadata names files by their full path. So a lake that was moved, mounted elsewhere or copied is read through a
table of roots, which maps recorded folders to actual folders. New metadata uses the recorded folders too, so the same
metadata is valid for the original and for every copy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlparse

ROOTS_PROPERTY: Final = "lakefeed.roots"
"""The property of a catalog and of its FileIO with the roots as text."""

_SCHEME = re.compile(r"^file:(//)?")
_SLASHES = re.compile(r"//+")


def plain_path(location: str) -> str | None:
    """Returns the local path of a location; None for other stores.

    Example:
        >>> plain_path("file:///data//lake"), plain_path("s3://bucket/lake")
        ('/data/lake', None)
    """
    if not location.startswith("/") and urlparse(location).scheme not in ("", "file"):
        return None
    return _SLASHES.sub("/", _SCHEME.sub("", location))


@dataclass(frozen=True)
class Roots:
    """Pairs of recorded and actual folder (plain paths without a trailing slash), the longest recorded folder first."""

    pairs: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, folders: Mapping[str, str]) -> Self:
        """Returns the roots of a mapping from recorded to actual folders."""
        return cls(tuple(sorted(folders.items(), key=lambda pair: (-len(pair[0]), pair[0]))))

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Returns the roots that `dump` wrote; none for None."""
        return cls(tuple((recorded, actual) for recorded, actual in json.loads(text or "[]")))

    def dump(self) -> str:
        """Returns the roots as text."""
        return json.dumps(self.pairs)

    @property
    def has_moved(self) -> bool:
        """Returns whether an actual folder differs from the recorded one."""
        return any(recorded != actual for recorded, actual in self.pairs)

    def actual(self, location: str) -> str:
        """Returns the actual location of a file; the same text if its root has not moved.

        Example:
            >>> Roots.of({"/old/lake": "/new/lake"}).actual("file:///old/lake/t/data/a.parquet")
            'file:///new/lake/t/data/a.parquet'
        """
        path = plain_path(location) if self.pairs else None
        if path is None:
            return location
        for recorded, actual in self.pairs:
            if path == recorded or path.startswith(f"{recorded}/"):
                return location if recorded == actual else f"file://{actual}{path[len(recorded) :]}"
        return location
