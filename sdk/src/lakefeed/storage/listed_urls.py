"""URLs that a list names, and the rules of which of them may be read.

A list is a manifest or a web page. A list on this machine may name anything. A list elsewhere may name URLs on its own
host (web) or in its own bucket (stores), and URLs that the caller allows by prefix. It can never name local files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from lakefeed.errors import InvalidArgumentError, RefusedTargetError
from lakefeed.storage.archives.url_chains import parse_chain
from lakefeed.storage.urls import LOCAL_SCHEMES, display_url, scheme

LOCAL_OR_MEMORY = LOCAL_SCHEMES | {"memory"}
WEB_SCHEMES = frozenset({"http", "https"})
PORTS = {"http": 80, "https": 443}
ALIASES = {"s3a": "s3", "gcs": "gs"}

_ANY_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")


def is_remote(url: str) -> bool:
    """Returns whether a URL, or the base of a chain, lies outside of this machine.

    Example:
        >>> is_remote("https://host/a.csv"), is_remote("data/a.csv"), is_remote("zip://a.csv::s3://bucket/a.zip")
        (True, False, True)
    """
    try:
        base = parse_chain(url).base
    except InvalidArgumentError:
        return True
    return scheme(base) not in LOCAL_OR_MEMORY


def check_allow_prefixes(prefixes: Sequence[str]) -> None:
    """Raises InvalidArgumentError for a prefix that is not a URL of another machine."""
    for prefix in prefixes:
        if scheme(prefix) in LOCAL_SCHEMES or not urlsplit(prefix).netloc or "::" in prefix:
            raise InvalidArgumentError(
                f"allow has {display_url(prefix)}: give the beginnings of URLs of other machines, such as "
                "'https://cdn.example.com/' or 's3://bucket/exports/'"
            )


def resolve_listed(base: str, entry: str, allow: Sequence[str] = ()) -> str:
    """Returns the URL that an entry of the list at ``base`` means.

    Entries of a list on this machine are returned unchanged.

    A relative name is resolved against the folder of the list. A chain into an archive is judged by the archive.

    Args:
        base: the URL of the list.
        entry: the text of the entry.
        allow: prefixes of further URLs that the list may name.

    Raises:
        RefusedTargetError: a remote list names a URL that is not allowed.

    Example:
        >>> resolve_listed("https://host/lists/today.txt", "a.csv")
        'https://host/lists/a.csv'
        >>> resolve_listed("https://host/lists/today.txt", "file:///etc/passwd")
        Traceback (most recent call last):
        lakefeed.errors.RefusedTargetError: the list 'https://host/lists/today.txt' names 'file:///etc/passwd', which \
    is not on its own host. A list on another machine may name URLs of its own host or bucket, and those that begin with
    \
    one of allow=(…)
    """
    base = parse_chain(base).base
    if scheme(base) in LOCAL_SCHEMES:
        return entry
    prefix, target = _split_chain(base, entry)
    url = _join(base, target)
    if url is None or not (_is_same_site(base, url) or any(_begins_with(prefix, url) for prefix in allow)):
        raise _refusal(base, entry)
    whole = prefix + url
    if _split_chain(base, whole) != (prefix, url):
        raise _refusal(base, entry)  # would be read as a chain
    return whole


def _split_chain(base: str, entry: str) -> tuple[str, str]:
    """Returns the links of a chain and the URL of the file itself."""
    try:
        chain = parse_chain(entry)
    except InvalidArgumentError:
        raise _refusal(base, entry) from None
    return entry[: len(entry) - len(chain.base)], chain.base


def _join(base: str, target: str) -> str | None:
    """Returns the absolute URL of an entry; None if it is not a URL, or contains ".."."""
    if not target or _FORBIDDEN.search(target) or target != target.strip():
        return None
    if _ANY_SCHEME.match(target) and not target.partition(":")[2].startswith("//"):
        return None  # programs differ in the meaning of "http:a.csv"
    if scheme(base) in WEB_SCHEMES:
        # Not for stores, whose relative names urljoin does not resolve.
        url = _urljoin(base, target)
    elif _ANY_SCHEME.match(target):
        url = target
    else:
        root, folder = _bucket_and_folder(base)
        url = root + target.lstrip("/") if target.startswith("/") else folder + target
    return None if url is None or _climbs(url) else url


def _urljoin(base: str, target: str) -> str | None:
    try:
        if target.partition("://")[2].startswith("/"):
            return None
        url = urljoin(base, target)
        return url if scheme(url) in WEB_SCHEMES and urlsplit(url).hostname else None
    except ValueError:
        return None


def _bucket_and_folder(base: str) -> tuple[str, str]:
    """Returns the bucket of a store and the folder of an object in it, both with a trailing slash."""
    start, _, path = base.partition("://")
    bucket = path.partition("/")[0]
    folder = path.rpartition("/")[0] if "/" in path else bucket
    return f"{start}://{bucket}/", f"{start}://{folder}/"


def _is_same_site(base: str, url: str) -> bool:
    """Returns whether two URLs have the same host or bucket."""
    here, there = _split(base), _split(url)
    if here is None or there is None:
        return False
    if here.scheme in WEB_SCHEMES:
        upgraded = (here.scheme, there.scheme) == ("http", "https") and None is here.port is there.port
        same = here.scheme == there.scheme and _port(here) == _port(there)
        return (same or upgraded) and here.hostname == there.hostname
    if here.scheme == "memory":  # it has no hosts
        return there.scheme == "memory"
    return ALIASES.get(here.scheme, here.scheme) == ALIASES.get(there.scheme, there.scheme) and (
        here.netloc == there.netloc
    )


def _begins_with(prefix: str, url: str) -> bool:
    """Returns whether a URL lies at or below another one."""
    here, there = _split(prefix), _split(url)
    if here is None or there is None or (here.scheme, here.hostname, _port(here)) != (
        there.scheme, there.hostname, _port(there)
    ):  # fmt: skip
        return False
    folder = here.path.rstrip("/")
    return there.path == folder or there.path.startswith(f"{folder}/")


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port, parts.hostname
    except ValueError:
        return None
    return parts if scheme(url) == parts.scheme and parts.scheme not in LOCAL_SCHEMES else None


def _port(parts: SplitResult) -> int | None:
    return parts.port or PORTS.get(parts.scheme)


def _climbs(url: str) -> bool:
    """Returns whether a part of the path is "..", also if it is escaped."""
    path = url.partition("://")[2]
    for _ in range(3):  # servers unquote once or twice
        if any(part == ".." for part in re.split(r"[/\\]", re.split("[?#]", path)[0])):
            return True
        path = unquote(path)
    return False


def _refusal(base: str, entry: str) -> RefusedTargetError:
    return RefusedTargetError(
        f"the list {display_url(base)} names {display_url(entry)}, which is not on its own host. A list on another "
        "machine may name URLs of its own host or bucket, and those that begin with one of allow=(…)"
    )
