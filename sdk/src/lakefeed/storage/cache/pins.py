"""Copies that must stay: a second hard link keeps them out of what makes room (`lakefeed.storage.cache.eviction`).

The links lie in a folder of whoever needs the copies, in the file system of the cache. Removing that folder is all that
it takes to let go of them.
"""

from __future__ import annotations

import logging
import os
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lakefeed.storage.cache.blob_cache import BlobCache
from lakefeed.storage.cache.url_copies import LOCAL_FILE_VALIDATORS, UrlCopies, UrlCopy
from lakefeed.storage.disk.atomic_write import with_directory
from lakefeed.storage.disk.hashing import sha256_stream
from lakefeed.storage.urls import local_path

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pins:
    """The pins in ``folder``. Safe between processes."""

    cache: BlobCache
    folder: Path

    def pin(self, sha256: str, suffix: str = "") -> None:
        """Keeps the copy of a blob. Raises FileNotFoundError if there is none."""
        place = self.cache.path(sha256, suffix)
        self._link(place, Path("sha256", sha256[:2], place.name))

    def pin_url(self, url: str, suffix: str = "") -> None:
        """Keeps the copy of what lies at a URL, which is not asked for any more. Raises FileNotFoundError."""
        copies = UrlCopies(self.cache)
        path = local_path(url)
        known = copies.find(url) if path is None else self._copy_file(copies, url, path, suffix)
        if known is None:
            raise FileNotFoundError(f"no copy of it in {self.cache.directory}")
        self.pin(known.sha256, suffix)
        place = copies.write_pin(url, known)
        self._link(place, Path("urls", place.parent.name, place.name))
        copies.read_records([url])

    def _copy_file(self, copies: UrlCopies, url: str, path: Path, suffix: str) -> UrlCopy:
        """What a path refers to, of which a copy is made: it may be gone one day as well."""
        with path.open("rb") as source:
            sha256, size = sha256_stream(source)
            if self.cache.find(sha256, suffix) is None:
                source.seek(0)
                self.cache.fill(sha256, suffix, source, str(path))
        copies.record(url, sha256, size, LOCAL_FILE_VALIDATORS)
        return UrlCopy(sha256, size, LOCAL_FILE_VALIDATORS, 0.0)

    def _link(self, place: Path, name: Path) -> None:
        target = self.folder / name
        try:
            with_directory(target.parent, lambda: os.link(place, target))
        except FileExistsError:
            if not target.samefile(place):  # the copy was made anew since
                self._replace(place, target)
        except FileNotFoundError:
            raise
        except OSError as error:
            _warn_once(str(self.folder), error.strerror)

    def _replace(self, place: Path, target: Path) -> None:
        temporary = target.with_name(f"{target.name}.{uuid.uuid4().hex}")
        os.link(place, temporary)
        temporary.replace(target)


@cache
def _warn_once(folder: str, reason: str) -> None:
    logger.warning("the files of %s may be evicted from the cache: it cannot link to them: %s", folder, reason)
