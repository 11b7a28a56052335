"""The media type for files of any kind, whose contents are not inspected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lakefeed.media.handles import Handle
from lakefeed.media.media_type import MediaType


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class File(Handle):
    """A file of any kind.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("notes.txt").write_text("hello")
        >>> File("notes.txt").bytes()
        b'hello'
    """

    media: ClassVar[str] = "file"


FILE = MediaType(name="file", handle=File)
