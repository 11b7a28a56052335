"""Local paths and URLs that the text in a file column names, and their display without credentials."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

LOCAL_SCHEMES = frozenset({"", "file", "local"})
LONGEST_SCHEME = len("https://")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")  # two characters or more: C:\\ is a drive
_FILE_URL = re.compile(r"(?:(?:file|local)://(?:localhost)?|file:)(?=/)", re.IGNORECASE)
_ESCAPED = re.compile(r"[?#%]")
_QUERY = re.compile(r"[?#]")
_SUFFIX = re.compile(r"(\.[A-Za-z0-9]{1,16}){1,2}")
_COMPRESSED = frozenset({".gz", ".bz2", ".xz", ".zst", ".lz4"})

REDACTED = "***"
_USERINFO = re.compile(r"(?<=://)[^/?#\s'\"]*@")
_PARAMETER = re.compile(r"(?<=[?&;#])([^=&;#\s'\"]+)=([^&;#\s'\"]*)")
_SECRET_NAME = re.compile(r"sig|token|key|pass|pwd|secret|auth|cred|session", re.IGNORECASE)
_NUMBER = re.compile(r"\d{1,9}")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_API_KEY = re.compile(r"[\w+=~-]{16,}")
"""An API key, as opposed to the path of an object."""
SECRETS = frozenset(
    {"accesskey", "apikey", "auth", "authorization", "credential", "credentials", "hmac", "jwt", "pass", "passwd",
     "password", "pwd", "sas", "secret", "session", "sig", "signature", "token"}
)  # fmt: skip
"""Words in the name of a query parameter that mark its value as a credential."""


def split_protocol(url: str) -> tuple[str | None, str]:
    """Returns the protocol and the rest, as fsspec splits them. The protocol of a local path is None.

    Example:
        >>> split_protocol("s3://bucket/cat.jpg"), split_protocol("/data/cat.jpg")
        (('s3', 'bucket/cat.jpg'), (None, '/data/cat.jpg'))
    """
    protocol, separator, path = url.partition("://")
    if separator and len(protocol) > 1:  # one letter is a drive
        return protocol.lower(), path
    return ("data", url.removeprefix("data:")) if url.startswith("data:") else (None, url)


def lower_scheme(url: str) -> str:
    """Returns a URL with its scheme in lower case, as libraries expect it. Other text stays as it is.

    Example:
        >>> lower_scheme("S3://Bucket/Cat.jpg"), lower_scheme("Cat.jpg")
        ('s3://Bucket/Cat.jpg', 'Cat.jpg')
    """
    kind = scheme(url)
    return kind + url[len(kind) :]


def scheme(text: str) -> str:
    """Returns the lower-case scheme of a URL; an empty string for a plain path.

    Example:
        >>> scheme("S3://bucket/cat.jpg"), scheme("cat.jpg"), scheme("C:/cat.jpg")
        ('s3', '', '')
    """
    match = _SCHEME.match(text)
    return match.group(1).lower() if match else ""


def local_path(text: str) -> Path | None:
    """Returns the path that ``text`` names on this machine; None for a remote URL.

    Example:
        >>> local_path("file:///data/my%20cat.jpg").as_posix()
        '/data/my cat.jpg'
        >>> local_path("https://host/cat.jpg") is None
        True
    """
    kind = scheme(text)
    if kind not in LOCAL_SCHEMES:
        return None
    # Not urlsplit: people write file://{path} with a raw '#' or '?' in it.
    return Path(expand_home(unquote(text[len(kind) + 3 :]).removeprefix("localhost") if kind else text))


def expand_home(path: str) -> str:
    """Returns a local path with ``~`` and ``~user`` at its start as the home folder. Other text stays as it is."""
    return os.path.expanduser(path) if path.startswith("~") else path  # noqa: PTH111 - a Path would normalize the text


def decode_file_url(url: str) -> str | None:
    """Returns the path that a ``file:`` URL names, where that differs from its text; None for anything else.

    Example:
        >>> decode_file_url("file:///data/my%20cat.csv"), decode_file_url("file:/data/cat.csv")
        ('/data/my cat.csv', '/data/cat.csv')
        >>> decode_file_url("file:///data/cat.csv") is None
        True
    """
    match = _FILE_URL.match(url)
    if match is None:
        return None
    path = url[match.end() :]
    decoded = unquote(path)
    return None if decoded == path and match[0].lower() in ("file://", "local://") else decoded


def file_name(text: str) -> str:
    """Returns the last part of a path or URL, without the query of a URL.

    Example:
        >>> file_name("https://host/a%20b/cat.JPG?token=1#top")
        'cat.JPG'
    """
    if scheme(text) in LOCAL_SCHEMES:
        path = local_path(text)
        return path.name if path is not None else ""
    # Not urlsplit: it raises on text that only looks like a URL.
    _, _, below_host = _QUERY.split(text, maxsplit=1)[0].partition("://")[2].partition("/")
    # Not pathlib, which takes longer than reading a small file: this is called for every cell.
    name = (unquote(below_host) if "%" in below_host else below_host).rstrip("/").rpartition("/")[2]
    return name if name != "." else ""


def suffix(name: str) -> str:
    """Returns the extension of a file name in lower case, with the extension before that of a compression.

    Returns an empty string if there is none that can be part of a path.

    Example:
        >>> suffix("cat.JPG"), suffix("brain.nii.gz"), suffix("README")
        ('.jpg', '.nii.gz', '')
    """
    _, *endings = name.rpartition("/")[2].lstrip(".").split(".")
    *_, before, last = ["", "", *(f".{ending}" for ending in endings)]
    extension = before + last if last.lower() in _COMPRESSED else last
    return extension.lower() if _SUFFIX.fullmatch(extension) else ""


def file_suffix(text: str) -> str:
    """Returns the `suffix` of the file that a path or URL names. Fast, because it is called for every cell.

    Example:
        >>> file_suffix("https://host/a/cat.JPG?token=1"), file_suffix("https://host.com"), file_suffix("a/b.txt")
        ('.jpg', '', '.txt')
    """
    last = text.rpartition("/")[2]
    # Fast path: most URLs need no decoding, and have a "/" behind the host.
    if last and "://" in text and text.find("/", LONGEST_SCHEME) > 0 and not _ESCAPED.search(text):
        return _suffix_of(last[last.find(".") :]) if "." in last else ""
    return suffix(file_name(text))


@lru_cache(4096)
def _suffix_of(ending: str) -> str:
    return suffix(f"name{ending}") if ending != "." else ""


def redact(text: str) -> str:
    """Returns ``text`` with the credentials of every URL in it hidden: user, password and signatures in a query.

    Only short numbers of a query are shown, unless their names suggest secrets, because the names of signatures vary
    too
    much to list them. For messages, logs and metadata.

    Example:
        >>> redact("cannot read https://me:word@host/a.jpg?id=17&X-Amz-Signature=a1b2")
        'cannot read https://***@host/a.jpg?id=17&X-Amz-Signature=***'
    """
    return _PARAMETER.sub(_redact_parameter, _USERINFO.sub(f"{REDACTED}@", text))


def display_url(text: str, most: int = 200) -> str:
    """Returns ``text`` quoted, without credentials, and cut to ``most`` characters: a column may hold any text.

    Example:
        >>> display_url("s3://key:secret@bucket/a.jpg")
        "'s3://***@bucket/a.jpg'"
    """
    text = redact(text)
    return repr(text if len(text) <= most else text[: most - 1] + "…")


def safe_cause(url: str, error: BaseException) -> BaseException | None:
    """Returns the error as the cause of another; None if ``url`` has credentials, which the error's text may repeat.

    Example:
        >>> safe_cause("https://me:word@host/a.jpg", OSError("cannot read https://me:word@host/a.jpg")) is None
        True
    """
    return error if redact(url) == url else None


def holds_credentials(url: str) -> bool:
    """Returns whether a URL contains credentials: a user, or a signature in the query.

    Narrower than `redact`, which hides all that may be a secret: URLs with credentials are refused where they are
    stored.

    Example:
        >>> holds_credentials("https://me:word@host/a.jpg"), holds_credentials("https://host/a.jpg?X-Amz-Signature=a1")
        (True, True)
        >>> holds_credentials("https://host/a.jpg?id=cat&design=blue&key=photos/cat.jpg")
        False
    """
    if scheme(url) in LOCAL_SCHEMES:
        return False
    users = (match.group().removesuffix("@") for match in _USERINFO.finditer(url))
    return any(user not in ("", REDACTED) for user in users) or any(
        _is_secret(unquote(name), unquote(value)) for name, value in _PARAMETER.findall(url)
    )


def _is_secret(name: str, value: str) -> bool:
    if value in ("", REDACTED):
        return False
    words = {word.lower() for word in _WORD.findall(name)}
    return bool(words & SECRETS) or ("key" in words and _API_KEY.fullmatch(value) is not None)


def _redact_parameter(match: re.Match[str]) -> str:
    name, value = match.groups()
    plain = _NUMBER.fullmatch(value) and not _SECRET_NAME.search(name)
    return f"{name}={value if plain else REDACTED}"
