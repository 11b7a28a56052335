"""Paths in trees: which are allowed, and patterns of them.

A path is relative, has the separator "/", and is kept byte for byte. Two spellings that only some file systems take for
one (capitals, composed characters) are two paths.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, Final

import pyarrow as pa

from lakefeed._arrow import compute as pc
from lakefeed._validate import check_text
from lakefeed.errors import ConflictingPathsError, InvalidArgumentError

MAX_NAME_BYTES: Final = 255
MAX_PATH_BYTES: Final = 4_000
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_WILD: Final = re.compile(r"[*?\[]")


def path_problem(path: str) -> str | None:
    """Returns the reason for which a path cannot be in a tree; None if it can.

    Example:
        >>> path_problem("a/b.txt"), path_problem("../b")
        (None, "has the part '..'")
    """
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "is not UTF-8"
    if not path:
        return "is empty"
    if path.startswith("/"):
        return "is absolute"
    if _CONTROL.search(path):
        return "has a control character"
    if len(encoded) > MAX_PATH_BYTES:
        return f"has more than {MAX_PATH_BYTES:,} bytes"
    for name in path.split("/"):
        if name in ("", ".", ".."):
            return f"has the part {name!r}"
        if len(name) * 4 > MAX_NAME_BYTES and len(name.encode()) > MAX_NAME_BYTES:
            return f"has a name of more than {MAX_NAME_BYTES} bytes"
    return None


def check_path(path: str, origin: str) -> str:
    """Returns a path of a tree.

    Raises:
        InvalidArgumentError: the path cannot be in a tree. The message begins with ``origin``.
    """
    problem = path_problem(path)
    if problem is not None:
        raise InvalidArgumentError(
            f"{origin}: the path {path!r:.300} {problem}; rename the file or choose another path"
        )
    return path


def check_folder(value: Any, argument: str) -> str:
    """Returns the path of a folder in a tree, without slashes around it; "" for the root."""
    if value is None:
        return ""
    folder = re.sub("/+", "/", str(check_text(value, argument))).strip("/")
    while folder.startswith("./"):
        folder = folder[2:].lstrip("/")
    return check_path(folder, argument) if folder not in ("", ".") else ""


def join(folder: str, path: str) -> str:
    """Returns a path below a folder of the tree."""
    return f"{folder}/{path}" if folder else path


# ------------------------------------------------------------------------------------------------- patterns


def is_wild(pattern: str) -> bool:
    """Returns whether a text is a pattern, not a path."""
    return _WILD.search(pattern) is not None


def pattern_of(value: Any, argument: str) -> str:
    """Returns a pattern or a path, without slashes around it.

    Raises:
        InvalidArgumentError: it is empty, or has the part "..".
    """
    text = re.sub("/+", "/", str(check_text(value, argument))).removeprefix("./").strip("/")
    if not text or ".." in text.split("/"):
        raise InvalidArgumentError(
            f"{argument}={value!r:.200}: give a path or a pattern in the tree, such as 'a/*.txt'"
        )
    return text


def translate(pattern: str, recursive: bool) -> str:
    r"""Returns a pattern as a regular expression for whole paths.

    ``*`` and ``?`` match within a name. With ``recursive``, ``*`` also matches "/"; ``**`` always does.

    Example:
        >>> translate("a/*.txt", recursive=False)
        'a/[^/]*\\.txt'
    """
    star = ".*" if recursive else "[^/]*"
    parts, at = [], 0
    while at < len(pattern):
        char = pattern[at]
        if pattern.startswith("**/", at) and (at == 0 or pattern[at - 1] == "/"):
            parts.append("(?:.*/)?")
            at += 3
        elif pattern.startswith("**", at):
            parts.append(".*")
            at += 2
        elif char == "[" and (end := _end_of_class(pattern, at)) > 0:
            parts.append(_class(pattern[at + 1 : end]))
            at = end + 1
        else:
            parts.append({"*": star, "?": "[^/]"}.get(char) or re.escape(char))
            at += 1
    return "".join(parts)


def _end_of_class(pattern: str, start: int) -> int:
    """Returns the position of the bracket that ends a class; -1 if there is none, so that "[" is itself."""
    first = start + 2 if pattern[start + 1 : start + 2] in ("!", "^") else start + 1
    return pattern.find("]", first + 1)


def _class(inner: str) -> str:
    negated = inner[0] in "!^"
    members = inner[1:] if negated else inner
    ranges = re.sub(r"(.)-(.)", lambda m: m[0] if m[1] <= m[2] else m[1] + m[2], members)
    escaped = re.sub(r"([\\\[\]^&~|])", r"\\\1", ranges)
    return f"[^/{escaped}]" if negated else f"[{escaped}]"


def matching(paths: Any, pattern: str, recursive: bool) -> Any:
    """Returns which paths match: a path itself and everything below it, or a pattern with ``*``, ``?`` or ``[``.

    Patterns are anchored at the root of the tree. A text that is a path of the tree means that path. Of a folder that
    is named without a pattern, and with ``recursive`` False, only the files directly in it match.
    """
    literal = at_or_below(paths, pattern, recursive)
    if not is_wild(pattern) or pc.any(literal).as_py():
        return literal
    inside = "(?:/.*)?" if recursive else ""
    return pc.match_substring_regex(paths, rf"(?s)\A(?:{translate(pattern, recursive)}){inside}\z")


def at_or_below(paths: Any, folder: str, recursive: bool = True) -> Any:
    """Returns which paths are this one, or lie below it; with ``recursive`` False, directly below it."""
    below: Any = pc.starts_with(paths, f"{folder}/")
    if not recursive:
        rest: Any = pc.utf8_slice_codeunits(paths, len(folder) + 1)
        below = pc.and_(below, pc.invert(pc.match_substring(rest, "/")))
    return pc.or_(pc.equal(paths, pa.scalar(folder)), below)


def wildcard_matcher(wildcard: Any, recursive: bool) -> Callable[[str], bool]:
    """Returns a function that says whether the path of a local file matches one of the wildcards; all for None.

    A wildcard without "/" matches the names of files, at any depth with ``recursive``. Others match whole paths.
    """
    if wildcard is None:
        return lambda path: True
    values = [wildcard] if isinstance(wildcard, str) else wildcard
    if not isinstance(values, list | tuple | set | frozenset) or not values:
        raise InvalidArgumentError(f"wildcard must be a text or a list of texts, got {wildcard!r:.80}")
    expressions = []
    for each in values:
        pattern = pattern_of(each, "wildcard")
        within_name = "/" not in pattern
        prefix = "(?:.*/)?" if within_name and recursive else ""
        expressions.append(prefix + translate(pattern, recursive and not within_name))
    compiled = re.compile("|".join(f"(?:{each})" for each in expressions), re.DOTALL)
    return lambda path: compiled.fullmatch(path) is not None


# ------------------------------------------------------------------------------------------------- conflicts


def check_conflicts(paths: Iterable[str], origin: str) -> None:
    """Checks that no path is a folder of another one.

    Raises:
        ConflictingPathsError: one is. The message names both.
    """
    for one, other in pairwise(sorted(f"{path}/" for path in paths)):
        if other.startswith(one) and other != one:
            raise conflict_error(one[:-1], other[:-1], origin)


def conflict_error(file: str, below: str, origin: str) -> ConflictingPathsError:
    """Returns the error for a path that would be a file and a folder."""
    return ConflictingPathsError(
        f"{origin}: {file!r} is a file, and {below!r} needs a folder of that name; remove one of them first"
    )


def has_below(paths: Sequence[str], folder: str) -> str | None:
    """Returns the first of the sorted paths that lies below a folder; None if there is none."""
    index = bisect_left(paths, f"{folder}/")
    path = paths[index] if index < len(paths) else ""
    return path if path.startswith(f"{folder}/") else None


def folders_above(path: str) -> Iterable[str]:
    """Yields the folders that contain a path, the outermost first."""
    at = path.find("/")
    while at > 0:
        yield path[:at]
        at = path.find("/", at + 1)
