"""Chained URLs of files inside archives and of compressed files."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lakefeed.errors import InvalidArgumentError, quoted_list
from lakefeed.storage.urls import display_url

ARCHIVES = frozenset({"zip", "tar"})
COMPRESSIONS = {
    ".gz": "gzip", ".gzip": "gzip", ".bz2": "bz2", ".xz": "xz", ".lzma": "xz", ".zst": "zstd", ".lz4": "lz4",
}  # fmt: skip
LINK_KINDS = ARCHIVES | frozenset(COMPRESSIONS.values())

_LINK_PATTERN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
_WEB_URL = re.compile(r"https?://", re.IGNORECASE)
_MAGIC = re.compile(r"[*?[]")
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True)
class Link:
    """One step into a file: ``kind`` is one of `LINK_KINDS`, ``path`` a member or a pattern of members."""

    kind: str
    path: str

    @property
    def is_pattern(self) -> bool:
        """True if the path is a pattern."""
        return self.kind in ARCHIVES and bool(_MAGIC.search(self.path))

    def matches(self, member: str) -> bool:
        """Returns whether the link leads to a member of an archive.

        A member with exactly this name matches a pattern too.
        """
        if member == self.path or not self.is_pattern:
            return member == self.path
        from fsspec.utils import glob_translate

        return re.match(glob_translate(self.path), member) is not None

    def __str__(self) -> str:
        return f"{self.kind}://{self.path}"


@dataclass(frozen=True)
class Chain:
    """The parts of a chained URL: ``base`` is a file, and ``links`` lead into it, the first of them from the base."""

    base: str
    links: tuple[Link, ...] = ()

    @property
    def name(self) -> str:
        """The name of the file at the end of the chain."""
        stem = next((link.path for link in reversed(self.links) if link.path), None)
        if stem is None:
            stem = strip_query(self.base)
            for _ in self.links:
                stem = stem.removesuffix(_suffix(stem))
        return stem.rsplit("/", 1)[-1]

    @property
    def compression(self) -> str | None:
        """The compression of the file at the end of the chain, by its name; None if a link decompresses the file."""
        unpacked = bool(self.links) and self.links[-1].kind not in ARCHIVES
        return None if unpacked else COMPRESSIONS.get(_suffix(self.name.lower()))

    @property
    def is_plain(self) -> bool:
        """True if the bytes at ``base`` are the file itself, so that ranges of it can be read."""
        return not self.links and self.compression is None

    @property
    def is_pattern(self) -> bool:
        """True if the chain may lead to several files."""
        return any(link.is_pattern for link in self.links)


def parse_chain(url: str) -> Chain:
    """Returns the parts of a URL.

    Raises:
        InvalidArgumentError: a link is unknown, names no member, or leads out of its archive.

    Example:
        >>> parse_chain("zip://a/b.json::https://host/x.zip")
        Chain(base='https://host/x.zip', links=(Link(kind='zip', path='a/b.json'),))
    """
    links: list[Link] = []
    rest = url
    while not _WEB_URL.match(rest):  # the path of a web URL belongs to the server, and hosts contain colons
        part, separator, after = rest.partition("::")
        link = _LINK_PATTERN.fullmatch(part)
        if not separator or (link is None and "://" not in rest):
            break  # the name of a file may contain "::"
        if link is None:
            raise InvalidArgumentError(_unknown_link(part, url))
        links.append(_parse_link(link[1].lower(), link[2], url))
        rest = after
    return Chain(rest, tuple(reversed(links)))


def _parse_link(kind: str, path: str, url: str) -> Link:
    if kind not in LINK_KINDS:
        raise InvalidArgumentError(_unknown_link(kind, url))
    if kind in ARCHIVES and not path:
        raise InvalidArgumentError(
            f"{display_url(url)} names no member of the archive, such as {kind}://folder/*.csv::…"
        )
    if kind in ARCHIVES and escapes_archive(path):
        raise InvalidArgumentError(
            f"{display_url(url)}: {path!r} leads out of the archive; members have relative names without '..'"
        )
    return Link(kind, path)


def _unknown_link(part: str, url: str) -> str:
    kinds = quoted_list(sorted(LINK_KINDS))
    return f"{display_url(url)}: {part!r} is not a link before '::'; choose from {kinds}"


def escapes_archive(member: str) -> bool:
    """Returns whether the name of a member is absolute or contains ".."."""
    absolute = member.startswith(("/", "\\")) or _DRIVE.match(member) is not None
    return absolute or ".." in re.split(r"[/\\]", member)


def strip_query(url: str) -> str:
    """Returns a URL of the web without its query; other URLs unchanged."""
    return re.split(r"[?#]", url, maxsplit=1)[0] if url.startswith(("http://", "https://")) else url


def _suffix(name: str) -> str:
    stem, dot, last = name.rpartition(".")
    return dot + last if stem and "/" not in last else ""
