"""The state of a file: what tells that the bytes read now belong to the same file as those read before."""

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
    """One state of a file. ``size`` in bytes; ``tag`` is an ETag or a generation; ``modified`` a time, as it was told.

    ``inode`` tells a local file from another one that took its path; it means nothing to another process, so it does
    not travel with a pickled plan.
    """

    size: int | None = None
    tag: str | None = None
    modified: float | str | None = None
    inode: tuple[int, int] | None = None

    @property
    def is_strong(self) -> bool:
        """Whether the tag promises the same bytes, so that it may stand in a condition."""
        return self.tag is not None and self.tag.startswith('"')

    @property
    def stamp(self) -> tuple[int | None, float | str | None]:
        """The size, and what else tells this state from others."""
        return self.size, self.modified if self.inode is not None or self.tag is None else self.tag

    def difference(self, now: Identity) -> str | None:
        """How ``now`` differs from this state, for messages; None where nothing that both tell differs."""
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
        """Whether ``now`` lacks the one validator that this state has."""
        return (self.tag is not None and now.tag is None) or (
            self.tag is None and self.modified is not None and now.tag is None and now.modified is None
        )

    def __reduce__(self) -> tuple[object, ...]:
        return Identity, (self.size, self.tag, self.modified)

    def merge(self, now: Identity) -> Identity:
        """All that is known of a state after it was seen again."""
        return Identity(
            now.size if self.size is None else self.size,
            self.tag or now.tag,
            now.modified if self.modified is None else self.modified,
            self.inode or now.inode,
        )


class Identities:
    """The state in which each file of a plan was first seen. Safe between threads; pickled with the plan.

    All later reads of the plan must see the same state, wherever they happen.
    """

    def __init__(self, known: Mapping[str, Identity] | None = None) -> None:
        self._known = dict(known or {})
        self._lock = Lock()

    def find(self, url: str) -> Identity | None:
        """The state that was recorded, if any."""
        return self._known.get(url)

    def confirm(self, url: str, now: Identity) -> Identity:
        """Records the state of a file that was not seen before; what is known of it now.

        Raises:
            ChangedFileError: it was seen in another state.
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
    """Raises ChangedFileError where a file is in another state than before."""
    difference = before.difference(now)
    if difference is not None:
        raise ChangedFileError(
            f"{display_url(url)} changed while it was read: {difference}. Rows of both states do not fit together; "
            "call from_file again once the file is complete"
        )


def identity_of_response(status: int, headers: Mapping[str, str]) -> Identity:
    """The state that the answer of a web server tells of. The size counts the bytes as they are served."""
    ranged = CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip()) if status == 206 else None
    length = ranged[3] if ranged is not None else headers.get("Content-Length", "") if status != 206 else ""
    return Identity(
        int(length) if length.isdecimal() else None,
        headers.get("ETag", "").strip() or None,
        headers.get("Last-Modified", "").strip() or None,
    )


def identity_of_info(info: Mapping[str, Any]) -> Identity:
    """The state that the file system of fsspec tells of."""
    tag = next((str(info[key]) for key in TAG_KEYS if info.get(key)), None)
    modified = next((info[key] for key in TIME_KEYS if info.get(key)), None)
    return Identity(info.get("size"), tag, modified if isinstance(modified, float | None) else str(modified))


def identity_of_status(status: os.stat_result) -> Identity:
    """The state of a local file."""
    return Identity(status.st_size, None, status.st_mtime, (status.st_dev, status.st_ino))


def _difference(name: str, before: object, now: object) -> str | None:
    return f"{name} {before} became {now}" if None not in (before, now) and before != now else None


def _opaque(tag: str) -> str:
    """Weak and strong tags of one text are compared as equal; only strong ones may stand in a condition."""
    return tag.removeprefix("W/")
