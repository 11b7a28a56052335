"""Chained URLs: a file inside an archive, or behind a compression, that lies at another URL."""

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
    """One step into a file: ``kind`` of `LINKS`, and what there is to be had: a member, or a pattern of members."""

    kind: str
    path: str

    @property
    def is_pattern(self) -> bool:
        """Whether it is a pattern."""
        return self.kind in ARCHIVES and bool(_MAGIC.search(self.path))

    def matches(self, member: str) -> bool:
        """Whether a member of an archive is asked for; a name is a name first."""
        if member == self.path or not self.is_pattern:
            return member == self.path
        from fsspec.utils import glob_translate

        return re.match(glob_translate(self.path), member) is not None

    def __str__(self) -> str:
        return f"{self.kind}://{self.path}"


@dataclass(frozen=True)
class Chain:
    """A URL taken apart: ``base`` lies somewhere, and ``links`` lead into it, the first of them from the base."""

    base: str
    links: tuple[Link, ...] = ()

    @property
    def name(self) -> str:
        """What the file that is read at the end is called."""
        stem = next((link.path for link in reversed(self.links) if link.path), None)
        if stem is None:
            stem = strip_query(self.base)
            for _ in self.links:
                stem = stem.removesuffix(_suffix(stem))
        return stem.rsplit("/", 1)[-1]

    @property
    def compression(self) -> str | None:
        """How the file that is read at the end is compressed, by its name; a link that unpacks it has done so."""
        unpacked = bool(self.links) and self.links[-1].kind not in ARCHIVES
        return None if unpacked else COMPRESSIONS.get(_suffix(self.name.lower()))

    @property
    def is_plain(self) -> bool:
        """Whether the bytes at ``base`` are the file itself, so that any part of it can be read."""
        return not self.links and self.compression is None

    @property
    def is_pattern(self) -> bool:
        """Whether it may lead to several files."""
        return any(link.is_pattern for link in self.links)


def parse_chain(url: str) -> Chain:
    """The URL taken apart.

    Raises:
        InvalidArgumentError: a link that leads nowhere, or out of its archive.

    Example:
        >>> parse_chain("zip://a/b.json::https://host/x.zip")
        Chain(base='https://host/x.zip', links=(Link(kind='zip', path='a/b.json'),))
    """
    links: list[Link] = []
    rest = url
    while not _WEB_URL.match(rest):  # what follows a host is the server's business, and hosts have colons too
        part, separator, after = rest.partition("::")
        link = _LINK_PATTERN.fullmatch(part)
        if not separator or (link is None and "://" not in rest):
            break  # "::" may stand in a file's name
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
    return f"{display_url(url)}: {part!r} cannot stand before '::'; choose from {kinds}"


def escapes_archive(member: str) -> bool:
    """Whether a member's name is absolute or climbs."""
    absolute = member.startswith(("/", "\\")) or _DRIVE.match(member) is not None
    return absolute or ".." in re.split(r"[/\\]", member)


def strip_query(url: str) -> str:
    """A URL of the web without its query."""
    return re.split(r"[?#]", url, maxsplit=1)[0] if url.startswith(("http://", "https://")) else url


def _suffix(name: str) -> str:
    stem, dot, last = name.rpartition(".")
    return dot + last if stem and "/" not in last else ""
