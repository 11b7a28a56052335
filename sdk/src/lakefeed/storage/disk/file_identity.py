"""States of a file, which show whether bytes that are read now belong to the same file as bytes read before."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

from lakefeed.errors import ChangedFileError
from lakefeed.storage.urls import display_url

CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
TIME_KEYS = ("mtime", "LastModified", "Last-Modified", "last_modified", "updated", "created")
TAG_KEYS = ("ETag", "etag", "generation", "md5Hash", "version_id")


@dataclass(frozen=True)
class Identity:
    """One state of a file.

    ``inode`` tells a local file from another one that replaced it. It is not pickled: it means nothing to other
    machines.

    Attributes:
        size: the size in bytes.
        tag: an ETag or a generation.
        modified: the modification time as the file system or the server gives it.
        inode: the device and the inode of a local file.
    """

    size: int | None = None
    tag: str | None = None
    modified: float | str | None = None
    inode: tuple[int, int] | None = None

    @property
    def is_strong(self) -> bool:
        """True if the tag guarantees the same bytes, so that it can be used in a condition."""
        return self.tag is not None and self.tag.startswith('"')

    @property
    def stamp(self) -> tuple[int | None, float | str | None]:
        """The size and the tag or time that tell this state from others."""
        return self.size, self.modified if self.inode is not None or self.tag is None else self.tag

    def difference(self, now: Identity) -> str | None:
        """Returns the difference to ``now`` as text for messages; None if nothing that both states have differs."""
        if self.tag is not None and now.tag is not None:
            if _opaque(self.tag) != _opaque(now.tag):
                return f"ETag {self.tag} became {now.tag}"
            if self.is_strong and now.is_strong:
                return _difference("size", self.size, now.size)
        return (
            _difference("size", self.size, now.size)
            or _difference("modification time", self.modified, now.modified)
            or _difference("inode", self.inode, now.inode)
        )

    def lacks_validator(self, now: Identity) -> bool:
        """Returns whether ``now`` lacks the only validator that this state has."""
        return (self.tag is not None and now.tag is None) or (
            self.tag is None and self.modified is not None and now.tag is None and now.modified is None
        )

    def __reduce__(self) -> tuple[object, ...]:
        return Identity, (self.size, self.tag, self.modified)

    def merge(self, now: Identity) -> Identity:
        """Returns this state with the attributes of ``now``, the same state seen again, that this one lacks."""
        return Identity(
            now.size if self.size is None else self.size,
            self.tag or now.tag,
            now.modified if self.modified is None else self.modified,
            self.inode or now.inode,
        )


class Identities:
    """The states of the files of a plan when they were first seen. Safe between threads; pickled with the plan.

    All later reads of the plan must see the same states, in any process.
    """

    def __init__(self, known: Mapping[str, Identity] | None = None) -> None:
        self._known = dict(known or {})
        self._lock = Lock()

    def find(self, url: str) -> Identity | None:
        """Returns the recorded state of a file; None if there is none."""
        return self._known.get(url)

    def confirm(self, url: str, now: Identity) -> Identity:
        """Records the state of a file or compares it with the recorded one. Returns what is known of the state.

        Raises:
            ChangedFileError: another state was recorded.
        """
        with self._lock:
            known = self._known.get(url)
            if known is not None:
                check_same(url, known, now)
                now = known.merge(now)
            self._known[url] = now
            return now

    def __getstate__(self) -> dict[str, Identity]:
        with self._lock:
            return dict(self._known)

    def __setstate__(self, known: dict[str, Identity]) -> None:
        self._known = dict(known)
        self._lock = Lock()


def check_same(url: str, before: Identity, now: Identity) -> None:
    """Raises ChangedFileError if the state of a file differs from the one before."""
    difference = before.difference(now)
    if difference is not None:
        raise ChangedFileError(
            f"{display_url(url)} changed while it was read: {difference}. Rows of different states cannot be combined; "
            "read it again once the file is complete"
        )


def identity_of_response(status: int, headers: Mapping[str, str]) -> Identity:
    """Returns the state that a response of a web server describes. The size is that of the bytes as they are served."""
    ranged = CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip()) if status == 206 else None
    length = ranged[3] if ranged is not None else headers.get("Content-Length", "") if status != 206 else ""
    return Identity(
        int(length) if length.isdecimal() else None,
        headers.get("ETag", "").strip() or None,
        headers.get("Last-Modified", "").strip() or None,
    )


def identity_of_info(info: Mapping[str, Any]) -> Identity:
    """Returns the state that an info of fsspec describes."""
    tag = next((str(info[key]) for key in TAG_KEYS if info.get(key)), None)
    modified = next((info[key] for key in TIME_KEYS if info.get(key)), None)
    return Identity(info.get("size"), tag, modified if isinstance(modified, float | None) else str(modified))


def identity_of_status(status: os.stat_result) -> Identity:
    """Returns the state of a local file."""
    return Identity(status.st_size, None, status.st_mtime, (status.st_dev, status.st_ino))


def _difference(name: str, before: object, now: object) -> str | None:
    return f"{name} {before} became {now}" if None not in (before, now) and before != now else None


def _opaque(tag: str) -> str:
    """Returns a tag for comparison: weak and strong tags with the same text are equal."""
    return tag.removeprefix("W/")
