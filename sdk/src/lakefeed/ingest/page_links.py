"""The links of a web page to files below it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from html.parser import HTMLParser
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from lakefeed._units import MIB
from lakefeed.errors import MissingFileError
from lakefeed.storage.archives.streams import open_stream
from lakefeed.storage.listed_urls import PORTS

MAX_BYTES = 64 * MIB
LINKING = ("a", "area")

IGNORED_SCHEMES = frozenset(
    {"about", "blob", "chrome", "cid", "data", "file", "ftp", "ftps", "geo", "http", "https", "irc", "javascript",
     "local", "magnet", "mailto", "news", "sftp", "sms", "tel", "urn", "view-source", "ws", "wss"}
)  # fmt: skip
"""Schemes of links that are no names of files with a colon."""

_IN_TEXT = re.compile(r"https?://[^\s\"'<>]+")
_TRAILING = ".,;:!?)]}"
"""Punctuation after an address in text."""
_NAME_WITH_COLON = re.compile(r"(?!.*(?:://|::|:/))([^/?#:]+):[^:]*\.\w+(?:[?#].*)?", re.DOTALL)
_CHARSET = re.compile(rb"<(?:meta|\?xml)[^>]{0,300}?(?:charset|encoding)\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_CHARSET_BYTES = 4_096
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
    in_text = (address.rstrip(_TRAILING) for text in parser.texts for address in _IN_TEXT.findall(text))
    for link in [*map(_relative_link, parser.links), *in_text]:
        address = _join_url(begin, link) if begin is not None else None
        name = None if address is None else _name_below(base, address)
        if name:
            yield name


def _name_below(base: str, address: str) -> str | None:
    """Returns the unquoted path of a file below ``base``; None for other addresses and for folders."""
    here, there = urlsplit(base), urlsplit(address)
    if _server(here) is None or _server(here) != _server(there):
        return None
    # Bytes that are not UTF-8 stay what they are.
    root, path = (unquote(url.path, errors="surrogateescape") for url in (here, there))
    name = path.removeprefix(root)
    if name == path or not name or name.endswith("/") or name.startswith("/") or _BAD.search(name):
        return None
    return None if ".." in re.split(r"/|%2f", unquote(name, errors="surrogateescape").lower()) else name


def _server(url: SplitResult) -> tuple[str, str | None, int | None] | None:
    """Returns the scheme, the host and the port of a URL; None if its port is not a number."""
    try:
        return url.scheme, url.hostname, url.port or PORTS.get(url.scheme)
    except ValueError:
        return None


def _relative_link(link: str) -> str:
    """Returns a link as one that no colon makes a URL. Servers list ``b:c.csv`` as it is, which looks like a scheme."""
    match = _NAME_WITH_COLON.fullmatch(link.strip())
    return link if match is None or match[1].lower() in IGNORED_SCHEMES else f"./{link.strip()}"


def _join_url(base: str, link: str) -> str | None:
    try:
        url = urljoin(base, link.strip())
        return url if urlsplit(url).scheme in ("http", "https") else None
    except ValueError:  # it only looks like a URL
        return None


def _page(url: str) -> str:
    with open_stream(url) as file:
        content: bytes = file.read(MAX_BYTES)
    return _decode_page(content)


def _decode_page(content: bytes) -> str:
    """Returns the text of a page in the encoding that it has or names."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if content.startswith(mark):
            return content.decode(encoding, errors="replace")
    named = _CHARSET.search(content[:_CHARSET_BYTES])
    for encoding in ("utf-8", named[1].decode() if named else "cp1252", "cp1252"):
        with suppress(LookupError, UnicodeDecodeError):
            return content.decode(encoding)
    return content.decode("latin-1")


class _Links(HTMLParser):
    """The targets of the links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.texts: list[str] = []
        self.base: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        target = dict(attrs).get("href")
        if target and tag in LINKING:
            self.links.append(target)
        elif target and tag == "base" and self.base is None:
            self.base = target

    def handle_data(self, data: str) -> None:
        if "://" in data:
            self.texts.append(data)
