"""The links of a web page to files below it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

from lakefeed._units import MIB
from lakefeed.errors import MissingFileError
from lakefeed.storage.archives.streams import open_stream

MAX_BYTES = 64 * MIB
LINKING = ("a", "area")

_IN_TEXT = re.compile(r"https?://[^\s\"'<>]+")
_BAD = re.compile(r"[\x00-\x1f\x7f\\]")


def links_below(base: str) -> set[str]:
    """Returns the unquoted names, relative to ``base``, of the files below it that its page links to.

    ``base`` ends with a slash. The page may set another start for relative links (``<base href>``). Links to other
    hosts and schemes, to this machine, or above ``base`` are left out.

    Raises:
        MissingFileError: the page does not exist.
        FileError: the page cannot be read.
    """
    bare = base.rstrip("/")
    try:
        names = set(names_below(base, _page(base)))
    except MissingFileError:
        return set(names_below(base, _page(bare)))
    if not names and urlsplit(bare).path:
        with suppress(MissingFileError):
            return set(names_below(base, _page(bare)))
    return names


def names_below(base: str, page: str) -> Iterator[str]:
    """Yields the names of files below ``base`` that a page links to."""
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
    """Returns the unquoted path of a file below ``base``; None for other addresses and for folders."""
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
        url = urljoin(base, link.strip())
        return url if urlsplit(url).scheme in ("http", "https") else None
    except ValueError:  # it only looks like a URL
        return None


def _page(url: str) -> str:
    with open_stream(url) as file:
        content: bytes = file.read(MAX_BYTES)
    return content.decode("utf-8", errors="replace")


class _Links(HTMLParser):
    """The targets of the links of a page."""

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
