"""The folders under which metadata names local files, and where these folders are now.

Iceberg's metadata names files by their whole path. A lake that was moved, mounted elsewhere or copied is therefore read
through a table of roots: what metadata names below a recorded root lies below its present folder. The metadata goes on
naming files below the recorded root, so the same metadata fits the original and every copy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlparse

ROOTS_PROPERTY: Final = "lakefeed.roots"
"""The property of a catalog, and so of its FileIO, that holds the roots as text."""

_SCHEME = re.compile(r"^file:(//)?")
_SLASHES = re.compile(r"//+")


def plain_path(location: str) -> str | None:
    """The local path of a location; None for other stores.

    Example:
        >>> plain_path("file:///data//lake"), plain_path("s3://bucket/lake")
        ('/data/lake', None)
    """
    if urlparse(location).scheme not in ("", "file"):
        return None
    return _SLASHES.sub("/", _SCHEME.sub("", location))


@dataclass(frozen=True)
class Roots:
    """Pairs of recorded root and present folder (plain paths without a slash at the end), the longest root first."""

    pairs: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, folders: Mapping[str, str]) -> Self:
        """The roots that are the keys of a mapping to present folders."""
        return cls(tuple(sorted(folders.items(), key=lambda pair: (-len(pair[0]), pair[0]))))

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """The roots that `dump` wrote; none for None."""
        return cls(tuple((recorded, now) for recorded, now in json.loads(text or "[]")))

    def dump(self) -> str:
        """Returns the roots as text."""
        return json.dumps(self.pairs)

    @property
    def moved(self) -> bool:
        """Whether any folder is elsewhere than recorded."""
        return any(recorded != now for recorded, now in self.pairs)

    def actual(self, location: str) -> str:
        """The location where the file is now; the same text where nothing has moved.

        Example:
            >>> Roots.of({"/old/lake": "/new/lake"}).actual("file:///old/lake/t/data/a.parquet")
            'file:///new/lake/t/data/a.parquet'
        """
        path = plain_path(location) if self.pairs else None
        if path is None:
            return location
        for recorded, now in self.pairs:
            if path == recorded or path.startswith(f"{recorded}/"):
                return location if recorded == now else f"file://{now}{path[len(recorded) :]}"
        return location
