"""Copies that eviction skips (`lakefeed.storage.cache.eviction`), because a second hard link pins them.

The links lie in a folder that belongs to the owner of the pins, in the file system of the cache. To release the copies,
remove that folder.
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
        """Pins the copy of a blob. Raises FileNotFoundError if there is none."""
        path = self.cache.path(sha256, suffix)
        self._link(path, Path("sha256", sha256[:2], path.name))

    def pin_url(self, url: str, suffix: str = "") -> None:
        """Pins the copy of the file at a URL, which is not requested any more.

        Raises FileNotFoundError if there is none.
        """
        copies = UrlCopies(self.cache)
        path = local_path(url)
        copy = copies.find(url) if path is None else self._copy_file(copies, url, path, suffix)
        if copy is None:
            raise FileNotFoundError(f"there is no copy of it in {self.cache.directory}")
        self.pin(copy.sha256, suffix)
        pin = copies.write_pin(url, copy)
        self._link(pin, Path("urls", pin.parent.name, pin.name))
        copies.read_records([url])

    def _copy_file(self, copies: UrlCopies, url: str, path: Path, suffix: str) -> UrlCopy:
        """Copies a local file, because that may be removed one day too."""
        with path.open("rb") as source:
            sha256, size = sha256_stream(source)
            if self.cache.find(sha256, suffix) is None:
                source.seek(0)
                self.cache.fill(sha256, suffix, source, str(path))
        copies.record(url, sha256, size, LOCAL_FILE_VALIDATORS)
        return UrlCopy(sha256, size, LOCAL_FILE_VALIDATORS, 0.0)

    def _link(self, path: Path, name: Path) -> None:
        target = self.folder / name
        try:
            with_directory(target.parent, lambda: os.link(path, target))
        except FileExistsError:
            if not target.samefile(path):  # the copy has been created again
                self._replace(path, target)
        except FileNotFoundError:
            raise
        except OSError as error:
            _warn_once(str(self.folder), error.strerror)

    def _replace(self, path: Path, target: Path) -> None:
        temporary = target.with_name(f"{target.name}.{uuid.uuid4().hex}")
        os.link(path, temporary)
        temporary.replace(target)


@cache
def _warn_once(folder: str, reason: str) -> None:
    logger.warning("files of %s may be evicted from the cache, because they cannot be linked to: %s", folder, reason)
