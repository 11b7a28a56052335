"""Where files are listed: a folder on any file system, a manifest of URLs, a web page of links."""

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
from lakefeed.storage.archives.streams import opened_stream
from lakefeed.storage.listed_urls import check_allowed, resolve_listed
from lakefeed.storage.remote.retrying_file import WEB, asked, stamp_of
from lakefeed.storage.urls import local_path, scheme, shown

PARTIAL_PREFIXES = (".", "_")
PARTIAL_SUFFIXES = (".tmp", ".part", ".partial", ".crdownload")


@dataclass(frozen=True)
class FolderSource(FileSource):
    """Files of ``folder`` that match ``pattern``, each read by ``read`` and appended to dataset ``into``.

    ``folder``: absolute, or relative to ``$LAKEFEED_HOME``, or a URL of any file system of fsspec. Further arguments
    say how they are read (``settle``, ``max_files``, ``on_changed``, ``drift``, …). For a page of the web there is
    `WebSource`.
    """

    folder: str
    pattern: str = "**/*"
    settle: float = field(default=5.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if scheme(self.folder) in WEB:
            raise InvalidArgumentError(
                f"ingest {self.name!r}: {shown(self.folder)} is no folder, but a page with links: use WebSource"
            )

    @property
    def path(self) -> Path:
        """The folder as it is for the settings in force; for a local one only."""
        local = local_path(self.folder)
        if local is None:
            raise InvalidArgumentError(f"{self.folder!r} of ingest {self.name!r} is no local folder")
        return Lake.current().settings.home / local

    def listed(self) -> Iterator[ListedFile]:
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

    def seen(self, file: ListedFile) -> ListedFile:
        if local_path(self.folder) is not None:
            return _stat(self.path, file.path)
        info = asked(str(self.location(file.path)), lambda fs, path: fs.info(path))
        return _listed_file(file.path, info)

    def _remote(self) -> Iterator[ListedFile]:
        pattern = f"{self.folder.rstrip('/')}/{self.pattern}"
        found: Mapping[str, dict[str, Any]] = asked(pattern, lambda fs, path: fs.glob(path, detail=True))
        root = asked(self.folder, lambda fs, path: path).rstrip("/") + "/"
        for path, info in found.items():
            relative = path.removeprefix(root)
            if info.get("type") == "file" and not is_partial(relative):
                yield _listed_file(relative, info)


@dataclass(frozen=True)
class ManifestSource(FileSource):
    """The files whose URLs stand in ``manifest``: a text file with one a line, or rows with a column ``url``.

    A line or row is taken once; a column ``stamp`` may say that the file behind a URL has changed. A manifest of this
    machine may name anything. One that lies elsewhere may name files of its own host (or bucket), relative names are
    taken from its folder, and ``allow`` says which other URLs it may name, by their beginnings:
    ``("https://cdn.example.com/", "s3://bucket/exports/")``. It never leads to a file of this machine.

    Raises:
        RefusedTargetError: when taken: a remote manifest names what it may not; nothing of it is taken.
    """

    manifest: str
    allow: tuple[str, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_allowed(self.allow)

    def listed(self) -> list[ListedFile]:
        found = sorted(set(self._entries()))
        for file in found:
            self.location(file.path)
        return found

    def location(self, path: str) -> str:
        return resolve_listed(self.manifest, path, self.allow)

    def _entries(self) -> Iterator[ListedFile]:
        place = self.manifest if local_path(self.manifest) is None else str(self._local)
        if not place.endswith(".txt"):
            rows = Dataset.from_file(place)
            if "url" not in rows.schema.names:
                raise ColumnNotFoundError.of("url", rows.schema.names, f"the manifest of ingest {self.name!r}")
            for row in rows.rows(load_files=False):
                if row["url"] is not None:
                    yield ListedFile(str(row["url"]), stamp=str(row.get("stamp") or ""))
            return
        with opened_stream(place) as file:
            content: bytes = file.read()
        lines = (line.strip() for line in decode_text(content, shown(place)).splitlines())
        yield from (ListedFile(line) for line in lines if line and not line.startswith("#"))

    @property
    def _local(self) -> Path:
        return Lake.current().settings.home / (local_path(self.manifest) or "")


@dataclass(frozen=True)
class WebSource(FileSource):
    """The files that the page at ``url`` links to, where their names match ``pattern``: an HTTP listing.

    Only links to files below ``url`` count, whatever the page says; all others are left out. What a server says of a
    file (size, ETag, time) is asked when it is new; a later change is not noticed.
    """

    url: str
    pattern: str = "*"

    def __post_init__(self) -> None:
        super().__post_init__()
        if scheme(self.url) not in WEB:
            raise InvalidArgumentError(f"ingest {self.name!r}: {shown(self.url)} is no page of the web (http, https)")

    def listed(self) -> list[ListedFile]:
        found = {name for name in links_below(self._base) if not is_partial(name)}
        return [ListedFile(name) for name in sorted(found) if fnmatch.fnmatch(name, self.pattern)]

    def location(self, path: str) -> str:
        return self._base + quote(path)

    @property
    def _base(self) -> str:
        return self.url.rstrip("/") + "/"


def is_partial(relative: str) -> bool:
    """Whether the name says that the file is hidden or not complete yet."""
    hidden = any(part.startswith(PARTIAL_PREFIXES) for part in relative.split("/"))
    return hidden or Path(relative).suffix.lower() in PARTIAL_SUFFIXES


def _stat(folder: Path, relative: str) -> ListedFile:
    try:
        stat = (folder / relative).stat()
    except FileNotFoundError:
        raise MissingFileError(f"{relative!r} has vanished from {folder}") from None
    except OSError as error:
        raise FileError(f"{relative!r} in {folder} cannot be looked at: {error}") from error
    return ListedFile(relative, stat.st_size, stat.st_mtime_ns)


def _listed_file(relative: str, info: dict[str, Any]) -> ListedFile:
    changed = next((info[key] for key in ("LastModified", "last_modified", "mtime", "created") if info.get(key)), None)
    seconds = changed if isinstance(changed, int | float) else changed.timestamp() if changed is not None else None
    modified_ns = -1 if seconds is None else int(seconds * 1e9)
    stamp = json.dumps([str(each) for each in stamp_of(info)])
    return ListedFile(relative, int(info.get("size") or 0), modified_ns, stamp)
