"""The links of a web page that lead to files below it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

from lakefeed._units import MIB
from lakefeed.errors import MissingFileError
from lakefeed.storage.archives.streams import opened_stream

MAX_BYTES = 64 * MIB
LINKING = ("a", "area")

_IN_TEXT = re.compile(r"https?://[^\s\"'<>]+")
_BAD = re.compile(r"[\x00-\x1f\x7f\\]")


def links_below(base: str) -> set[str]:
    """The names, relative to ``base`` (which ends in a slash), of files below it that its page links to; unquoted.

    A page may also set where its relative links begin (``<base href>``). Links that lead elsewhere are left out: to
    other hosts and schemes, to this machine, or above ``base``.

    Raises:
        MissingFileError: there is no such page.
        FileError: it cannot be read.
    """
    bare = base.rstrip("/")
    try:
        found = set(names_below(base, _page(base)))
    except MissingFileError:
        return set(names_below(base, _page(bare)))
    if not found and urlsplit(bare).path:
        with suppress(MissingFileError):
            return set(names_below(base, _page(bare)))
    return found


def names_below(base: str, page: str) -> Iterator[str]:
    """The names of files below ``base`` that a page links to."""
    parser = _Links()
    parser.feed(page)
    parser.close()
    begin = _join_url(base, parser.base) if parser.base is not None else base
    for link in [*parser.links, *_IN_TEXT.findall(page)]:
        address = _join_url(begin, link) if begin is not None else None
        name = None if address is None else _name_below(base, address)
        if name:
            yield name


def _name_below(base: str, address: str) -> str | None:
    """The unquoted path of a file below ``base``; None where the address lies elsewhere, or is that of a folder."""
    here, there = urlsplit(base), urlsplit(address)
    if (here.scheme, here.netloc) != (there.scheme, there.netloc):
        return None
    root, path = unquote(here.path), unquote(there.path)
    name = path.removeprefix(root)
    if name == path or not name or name.endswith("/") or name.startswith("/") or _BAD.search(name):
        return None
    return None if ".." in re.split(r"/|%2f", unquote(name).lower()) else name


def _join_url(base: str, link: str) -> str | None:
    try:
        found = urljoin(base, link.strip())
        return found if urlsplit(found).scheme in ("http", "https") else None
    except ValueError:  # it only looks like a URL
        return None


def _page(url: str) -> str:
    with opened_stream(url) as file:
        content: bytes = file.read(MAX_BYTES)
    return content.decode("utf-8", errors="replace")


class _Links(HTMLParser):
    """Where the links of a page lead, as it says."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.base: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        target = dict(attrs).get("href")
        if target and tag in LINKING:
            self.links.append(target)
        elif target and tag == "base" and self.base is None:
            self.base = target
