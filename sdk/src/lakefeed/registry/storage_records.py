"""`Storage` and `User`: places of contents, and who wrote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lakefeed.catalog.lake import Lake
from lakefeed.errors import RecordNotFoundError
from lakefeed.records.entities import USER_ENTITY
from lakefeed.registry.table_record import TableRecord
from lakefeed.storage.urls import redact, scheme


@dataclass(frozen=True)
class Storage:
    """A place of contents: the blob store of the lake.

    Attributes:
        root: the URL or path, without credentials.
    """

    root: str

    @property
    def type(self) -> str:
        """The kind: "local", or the scheme of the URL, such as "s3"."""
        found = scheme(self.root)
        return found if found not in ("", "file") else "local"

    @classmethod
    def filter(cls, root: str | None = None) -> list[Storage]:
        """Returns the places of the current lake.

        Args:
            root: only that of this root.
        """
        own = cls(redact(Lake.current().blobs.url))
        return [own] if root in (None, own.root) else []

    @classmethod
    def get(cls, root: str) -> Storage:
        """Returns the place of a root.

        Args:
            root: the URL or path.

        Raises:
            RecordNotFoundError: the lake does not use it.
        """
        places = cls.filter(root)
        if not places:
            raise RecordNotFoundError(f"the lake does not use {root!r}; it uses {cls.filter()[0].root!r}")
        return places[0]


class User(TableRecord):
    """A user who has written versions or files. The registry makes users of what commits name."""

    _entity = USER_ENTITY
    _key = "name"
    _columns: ClassVar = {"name": "name", "created_at": "created"}

    def __init__(self) -> None:
        raise TypeError("users are made by the registry; find one with User.get(name) or User.filter()")
