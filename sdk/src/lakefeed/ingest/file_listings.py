"""Sources of files: a folder on any file system, a manifest of URLs, a web page with links."""

from __future__ import annotations

import fnmatch
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lakefeed import _paths
from lakefeed.catalog import Lake
from lakefeed.dataset import Dataset
from lakefeed.errors import ColumnNotFoundError, FileError, InvalidArgumentError, MissingFileError
from lakefeed.formats.file_format import content_errors
from lakefeed.formats.text_blocks import decode_text
from lakefeed.ingest.delivery_rows import NOT_UTF8_NAME
from lakefeed.ingest.file_ingestion import FileSource
from lakefeed.ingest.folder_walk import is_utf8, printable_name, walk_folder
from lakefeed.ingest.ledger import ListedFile
from lakefeed.ingest.page_links import links_below
from lakefeed.ingest.path_patterns import PathPattern
from lakefeed.ingest.signed_urls import unsigned_url
from lakefeed.storage.archives.streams import open_stream
from lakefeed.storage.archives.url_chains import COMPRESSIONS, parse_chain
from lakefeed.storage.disk.delivery_names import is_ignored_name
from lakefeed.storage.listed_urls import check_allow_prefixes, resolve_listed
from lakefeed.storage.remote.retrying_file import OBJECT_STORES, WEB_PROTOCOLS, query_filesystem, stamp_of
from lakefeed.storage.urls import display_url, local_path, scheme

logger = logging.getLogger(__name__)

TABLE_SUFFIXES = (".csv", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".feather", ".ipc")
"""The suffixes of manifests that are tables. Other manifests are text."""


@dataclass(frozen=True)
class FolderSource(FileSource):
    """Ingests the files of a folder that match a pattern. For a web page use `WebSource`.

    Args:
        folder: an absolute path, a path relative to ``$LAKEFEED_HOME``, or a URL of any file system of fsspec.
        pattern: a glob, relative to the folder. ``**`` matches any number of folders. Hidden and unfinished files, and
            what systems leave in folders (``.x``, ``_x``, ``x.part``, ``x~``, ``@eaDir``, ``Thumbs.db``, …), match only
            where a part of the pattern asks for them: ``*.part``, ``_new/*.csv``.

    The other arguments are those of `FileSource`.
    """

    folder: str
    pattern: str = "**/*"
    settle: float = field(default=5.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _paths.is_storable(self.folder):
            raise InvalidArgumentError(f"ingest {self.name!r}: folder must be a path or URL, got {self.folder!r:.80}")
        if scheme(self.folder) in WEB_PROTOCOLS:
            raise InvalidArgumentError(
                f"ingest {self.name!r}: {display_url(self.folder)} is a web page, not a folder: use WebSource"
            )

    @property
    def path(self) -> Path:
        """The absolute path of a local folder under the current settings.

        Raises:
            InvalidArgumentError: the folder is not local.
        """
        local = local_path(self.folder)
        if local is None:
            raise InvalidArgumentError(f"{self.folder!r} of ingest {self.name!r} is not a local folder")
        return Lake.current().settings.home / local

    @property
    def appears_whole(self) -> bool:
        return scheme(self.folder) in OBJECT_STORES

    def list_files(self) -> list[ListedFile]:
        return sorted(map(self.listed, self._statuses()))

    def scan_files(self) -> Iterator[tuple[str, int, int, str]]:
        own = type(self).list_files is FolderSource.list_files
        return self._statuses() if own else iter(self.list_files())

    def listed(self, status: tuple[str, int, int, str]) -> ListedFile:
        path, size, modified_ns, stamp = status
        if is_utf8(path):
            return ListedFile(path, size, modified_ns, stamp)
        return ListedFile(printable_name(path), size, modified_ns, NOT_UTF8_NAME)

    def location(self, path: str) -> Path | str:
        return self.path / path if local_path(self.folder) is not None else f"{self.folder.rstrip('/')}/{path}"

    def current(self, file: ListedFile) -> ListedFile:
        if local_path(self.folder) is not None:
            return _stat(self.path, file.path)
        info = query_filesystem(str(self.location(file.path)), lambda fs, path: fs.info(path))
        return _listed_file(file.path, info)

    def _statuses(self) -> Iterator[tuple[str, int, int, str]]:
        if local_path(self.folder) is None:
            return self._remote()
        return walk_folder(self.path, PathPattern(self.pattern), self._report)

    def _report(self, path: str, error: OSError) -> None:
        logger.warning(
            "ingest %s: %r in %s cannot be listed: %s", self.name, path, display_url(self.folder), error.strerror
        )

    def _remote(self) -> Iterator[ListedFile]:
        pattern = PathPattern(self.pattern)
        # Not a glob: the name of the folder may have the characters of one.
        files, root = query_filesystem(self.folder, lambda fs, path: (_find(fs, path, pattern.depth), path))
        for path, info in files.items():
            relative = path.removeprefix(root.rstrip("/") + "/")
            if relative != path and pattern.matches(relative):
                yield _listed_file(relative, info)


@dataclass(frozen=True)
class ManifestSource(FileSource):
    """Ingests the files that a manifest names: a text file with a URL on each line, or rows with a column ``url``.

    Each line or row is ingested once. A column ``stamp`` can mark that the file at a URL has changed. A signature in a
    query (``?sig=``, ``X-Amz-Signature``) is used, and not stored: the same URL with a new signature is the same file.
    A table is recognized by its suffix. Text is UTF-8, with any line ends; lines that begin with ``#`` are left out.

    A local manifest may name any file. A remote manifest may name files of its own host or bucket, and files that
    ``allow`` permits. It never reads files of this machine. Relative names start from the folder of the manifest.

    Args:
        manifest: the path or URL of the manifest.
        allow: the beginnings of other URLs that a remote manifest may name:
            ``("https://cdn.example.com/", "s3://bucket/exports/")``.

    The other arguments are those of `FileSource`. Listing raises `RefusedTargetError` if a remote manifest names a
    forbidden file; then nothing of it is ingested.
    """

    manifest: str
    allow: tuple[str, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _paths.is_storable(self.manifest):
            raise InvalidArgumentError(
                f"ingest {self.name!r}: manifest must be a path or URL, got {self.manifest!r:.80}"
            )
        check_allow_prefixes(self.allow)

    def list_files(self) -> list[ListedFile]:
        files = sorted(set(self._entries()))
        for file in files:
            self.location(file.path)  # raises where the manifest must not name it
        return files

    def ledger_path(self, path: str) -> str:
        """Returns the URL without its signature, which is another one whenever a manifest is written."""
        return unsigned_url(path)

    def location(self, path: str) -> str:
        folder = local_path(parse_chain(self._location).base)
        if folder is not None:
            return _from_folder(folder.parent, path)
        return resolve_listed(self.manifest, path, self.allow)

    def _entries(self) -> Iterator[ListedFile]:
        if self._is_table:
            rows = Dataset.from_file(self._location)
            if "url" not in rows.schema.names:
                raise ColumnNotFoundError.of("url", rows.schema.names, f"the manifest of ingest {self.name!r}")
            for row in rows.rows(load_files=False):
                if row["url"] is not None and str(row["url"]).strip():
                    yield ListedFile(str(row["url"]).strip(), stamp=str(row.get("stamp") or ""))
            return
        with content_errors(self._location, "a manifest"), open_stream(self._location) as file:
            content: bytes = file.read()
        text = decode_text(content, display_url(self._location))
        # Not splitlines(), which also splits at characters that names may have.
        lines = (line.strip() for line in re.split(r"\r\n|\n|\r", text))
        yield from (ListedFile(line) for line in lines if line and not line.startswith("#"))

    @property
    def _location(self) -> str:
        return self.manifest if local_path(self.manifest) is None else str(self._local)

    @property
    def _is_table(self) -> bool:
        name = parse_chain(self._location).name.lower()
        for suffix in COMPRESSIONS:
            name = name.removesuffix(suffix)
        return name.endswith(TABLE_SUFFIXES)

    @property
    def _local(self) -> Path:
        return Lake.current().settings.home / (local_path(self.manifest) or "")


@dataclass(frozen=True)
class WebSource(FileSource):
    """Ingests the files that a web page links to and whose names match a pattern.

    Only links to files below ``url`` count. The facts of a file (size, ETag, time) are read when it is new, so a later
    change is not noticed.

    Args:
        url: the page (http or https).
        pattern: a glob for the names of the files.

    The other arguments are those of `FileSource`.
    """

    url: str
    pattern: str = "*"

    def __post_init__(self) -> None:
        super().__post_init__()
        if scheme(self.url) not in WEB_PROTOCOLS:
            raise InvalidArgumentError(
                f"ingest {self.name!r}: {display_url(self.url)} is not a web page; use an http or https URL"
            )

    def list_files(self) -> list[ListedFile]:
        names = {name for name in links_below(self._base) if not self._is_ignored(name)}
        matches = [name for name in names if fnmatch.fnmatchcase(name, self.pattern)]
        good = [ListedFile(name) for name in matches if is_utf8(name)]
        bad = [ListedFile(printable_name(name), stamp=NOT_UTF8_NAME) for name in matches if not is_utf8(name)]
        return sorted([*good, *bad])

    def location(self, path: str) -> str:
        return self._base + quote(path)

    def _is_ignored(self, name: str) -> bool:
        return any(map(is_ignored_name, name.split("/"))) and not is_ignored_name(self.pattern.rpartition("/")[2])

    @property
    def _base(self) -> str:
        return self.url.rstrip("/") + "/"


def _from_folder(folder: Path, entry: str) -> str:
    """Returns an entry of a local manifest. A relative name starts from the folder of the manifest."""
    try:
        name = parse_chain(entry).base
    except InvalidArgumentError:
        return entry  # reading it raises
    if scheme(name) or name.startswith(("/", "~", "data:", "file:")):
        return entry
    return entry.removesuffix(name) + os.path.normpath(folder / name)


def _find(fs: Any, path: str, depth: int | None) -> Mapping[str, dict[str, Any]]:
    """Returns the files below a folder, up to a depth, with what the file system knows about them."""
    try:
        files: Mapping[str, dict[str, Any]] = fs.find(path, maxdepth=depth, detail=True)
    except FileNotFoundError:
        return {}
    return {name: info for name, info in files.items() if info.get("type") == "file"}


def _stat(folder: Path, relative: str) -> ListedFile:
    try:
        stat = (folder / relative).stat()
    except FileNotFoundError:
        raise MissingFileError(f"{relative!r} no longer exists in {folder}") from None
    except OSError as error:
        raise FileError(f"{relative!r} in {folder} cannot be read: {error}") from error
    return ListedFile(relative, stat.st_size, stat.st_mtime_ns)


def _listed_file(relative: str, info: dict[str, Any]) -> ListedFile:
    changed = next((info[key] for key in ("LastModified", "last_modified", "mtime", "created") if info.get(key)), None)
    seconds = changed if isinstance(changed, int | float) else changed.timestamp() if changed is not None else None
    modified_ns = -1 if seconds is None else int(seconds * 1e9)
    stamp = json.dumps([str(each) for each in stamp_of(info)])
    return ListedFile(relative, int(info.get("size") or 0), modified_ns, stamp)
