"""Sources of files: a folder on any file system, a manifest of URLs, a web page with links."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lakefeed.catalog import Lake
from lakefeed.dataset import Dataset
from lakefeed.errors import ColumnNotFoundError, FileError, InvalidArgumentError, MissingFileError
from lakefeed.formats.text_blocks import decode_text
from lakefeed.ingest.file_ingestion import FileSource
from lakefeed.ingest.ledger import ListedFile
from lakefeed.ingest.page_links import links_below
from lakefeed.storage.archives.streams import open_stream
from lakefeed.storage.listed_urls import check_allow_prefixes, resolve_listed
from lakefeed.storage.remote.retrying_file import WEB_PROTOCOLS, query_filesystem, stamp_of
from lakefeed.storage.urls import display_url, local_path, scheme

PARTIAL_PREFIXES = (".", "_")
PARTIAL_SUFFIXES = (".tmp", ".part", ".partial", ".crdownload")


@dataclass(frozen=True)
class FolderSource(FileSource):
    """Ingests the files of a folder that match a pattern. For a web page use `WebSource`.

    Args:
        folder: an absolute path, a path relative to ``$LAKEFEED_HOME``, or a URL of any file system of fsspec.
        pattern: a glob, relative to the folder.

    The other arguments are those of `FileSource`.
    """

    folder: str
    pattern: str = "**/*"
    settle: float = field(default=5.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
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

    def list_files(self) -> Iterator[ListedFile]:
        if local_path(self.folder) is None:
            yield from sorted(self._remote())
            return
        folder = self.path
        for path in sorted(folder.glob(self.pattern)):
            relative = path.relative_to(folder)
            if not is_partial(relative.as_posix()) and path.is_file():
                yield _stat(folder, relative.as_posix())

    def location(self, path: str) -> Path | str:
        return self.path / path if local_path(self.folder) is not None else f"{self.folder.rstrip('/')}/{path}"

    def current(self, file: ListedFile) -> ListedFile:
        if local_path(self.folder) is not None:
            return _stat(self.path, file.path)
        info = query_filesystem(str(self.location(file.path)), lambda fs, path: fs.info(path))
        return _listed_file(file.path, info)

    def _remote(self) -> Iterator[ListedFile]:
        pattern = f"{self.folder.rstrip('/')}/{self.pattern}"
        files: Mapping[str, dict[str, Any]] = query_filesystem(pattern, lambda fs, path: fs.glob(path, detail=True))
        root = query_filesystem(self.folder, lambda fs, path: path).rstrip("/") + "/"
        for path, info in files.items():
            relative = path.removeprefix(root)
            if info.get("type") == "file" and not is_partial(relative):
                yield _listed_file(relative, info)


@dataclass(frozen=True)
class ManifestSource(FileSource):
    """Ingests the files that a manifest names: a text file with a URL on each line, or rows with a column ``url``.

    Each line or row is ingested once. A column ``stamp`` can mark that the file at a URL has changed.

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
        check_allow_prefixes(self.allow)

    def list_files(self) -> list[ListedFile]:
        files = sorted(set(self._entries()))
        for file in files:
            self.location(file.path)  # raises where the manifest must not name it
        return files

    def location(self, path: str) -> str:
        return resolve_listed(self.manifest, path, self.allow)

    def _entries(self) -> Iterator[ListedFile]:
        location = self.manifest if local_path(self.manifest) is None else str(self._local)
        if not location.endswith(".txt"):
            rows = Dataset.from_file(location)
            if "url" not in rows.schema.names:
                raise ColumnNotFoundError.of("url", rows.schema.names, f"the manifest of ingest {self.name!r}")
            for row in rows.rows(load_files=False):
                if row["url"] is not None:
                    yield ListedFile(str(row["url"]), stamp=str(row.get("stamp") or ""))
            return
        with open_stream(location) as file:
            content: bytes = file.read()
        lines = (line.strip() for line in decode_text(content, display_url(location)).splitlines())
        yield from (ListedFile(line) for line in lines if line and not line.startswith("#"))

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
        names = {name for name in links_below(self._base) if not is_partial(name)}
        return [ListedFile(name) for name in sorted(names) if fnmatch.fnmatch(name, self.pattern)]

    def location(self, path: str) -> str:
        return self._base + quote(path)

    @property
    def _base(self) -> str:
        return self.url.rstrip("/") + "/"


def is_partial(relative: str) -> bool:
    """Returns whether the name marks a hidden or incomplete file."""
    hidden = any(part.startswith(PARTIAL_PREFIXES) for part in relative.split("/"))
    return hidden or Path(relative).suffix.lower() in PARTIAL_SUFFIXES


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
