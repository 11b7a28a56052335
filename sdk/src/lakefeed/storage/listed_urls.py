"""URLs that a list names: a list from another machine may not choose what this machine reads.

A list is a manifest or a web page. One that lies on this machine may name anything. One that lies elsewhere may name
what lies on the same host (for the web) or in the same bucket (for stores), and what the caller allows by prefix.
It never leads to a file of this machine.
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
    """Whether a URL, or the base of a chain, lies outside of this machine.

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
    """Raises InvalidArgumentError for a prefix that is not the URL of another machine."""
    for prefix in prefixes:
        if scheme(prefix) in LOCAL_SCHEMES or not urlsplit(prefix).netloc or "::" in prefix:
            raise InvalidArgumentError(
                f"allow has {display_url(prefix)}: give the beginnings of URLs of other machines, such as "
                "'https://cdn.example.com/' or 's3://bucket/exports/'"
            )


def resolve_listed(base: str, entry: str, allow: Sequence[str] = ()) -> str:
    """The URL that an entry of the list at ``base`` means; as it is where the list lies on this machine.

    A relative name is taken from the folder of the list. A chain into an archive is judged by the archive.

    Args:
        base: the URL of the list.
        entry: what the list says.
        allow: beginnings of further URLs that the list may name.

    Raises:
        RefusedTargetError: a remote list names what it may not.

    Example:
        >>> resolve_listed("https://host/lists/today.txt", "a.csv")
        'https://host/lists/a.csv'
        >>> resolve_listed("https://host/lists/today.txt", "file:///etc/passwd")
        Traceback (most recent call last):
        lakefeed.errors.RefusedTargetError: the list 'https://host/lists/today.txt' names 'file:///etc/passwd', which \
is not on its own host. A list on another machine may name URLs of its own host or bucket, and those that begin with \
one of allow=(…)
    """
    base = parse_chain(base).base
    if scheme(base) in LOCAL_SCHEMES:
        return entry
    prefix, target = _split_chain(base, entry)
    found = _join(base, target)
    if found is None or not (_is_same_site(base, found) or any(_begins_with(prefix, found) for prefix in allow)):
        raise _refusal(base, entry)
    whole = prefix + found
    if _split_chain(base, whole) != (prefix, found):
        raise _refusal(base, entry)  # it would be read as a chain
    return whole


def _split_chain(base: str, entry: str) -> tuple[str, str]:
    """What leads into the file, and the file's own URL."""
    try:
        chain = parse_chain(entry)
    except InvalidArgumentError:
        raise _refusal(base, entry) from None
    return entry[: len(entry) - len(chain.base)], chain.base


def _join(base: str, target: str) -> str | None:
    """The absolute URL of an entry; None where it is no URL, or climbs."""
    if not target or _FORBIDDEN.search(target) or target != target.strip():
        return None
    if _ANY_SCHEME.match(target) and not target.partition(":")[2].startswith("//"):
        return None  # "http:a.csv" means different things to different programs
    if scheme(base) in WEB_SCHEMES:
        # Not that of a store: urljoin knows of no relative names there.
        found = _urljoin(base, target)
    elif _ANY_SCHEME.match(target):
        found = target
    else:
        root, folder = _bucket_and_folder(base)
        found = root + target.lstrip("/") if target.startswith("/") else folder + target
    return None if found is None or _climbs(found) else found


def _urljoin(base: str, target: str) -> str | None:
    try:
        if target.partition("://")[2].startswith("/"):
            return None
        found = urljoin(base, target)
        return found if scheme(found) in WEB_SCHEMES and urlsplit(found).hostname else None
    except ValueError:
        return None


def _bucket_and_folder(base: str) -> tuple[str, str]:
    """A store's bucket and the folder of an object in it, both with a slash at their ends."""
    start, _, path = base.partition("://")
    bucket = path.partition("/")[0]
    folder = path.rpartition("/")[0] if "/" in path else bucket
    return f"{start}://{bucket}/", f"{start}://{folder}/"


def _is_same_site(base: str, url: str) -> bool:
    """Whether a URL is on the host of another one, or in its bucket."""
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
    """Whether a URL lies at or below another one."""
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
    """Whether a part of the path, however it is written, is "..": what is before it would not hold."""
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
