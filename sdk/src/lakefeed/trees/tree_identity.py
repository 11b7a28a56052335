"""The names of trees in the catalog, their ids and their labels."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Collection, Iterable
from typing import Any, Final, NamedTuple

from lakefeed._validate import check_text
from lakefeed.catalog.lake import NAME_PART
from lakefeed.errors import InvalidArgumentError

FIRST_LABEL: Final = "1.0.0"
MAX_LABEL_CHARACTERS: Final = 128
HEX: Final = re.compile("[0-9a-f]{12}")
_NUMBER: Final = re.compile(r"v([1-9][0-9]{0,17})")
_SEMANTIC: Final = re.compile(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})")
_SLUG_CHARACTERS: Final = 54
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class TreeId(NamedTuple):
    """The id of a tree: its dataset, and either the 12 hex digits that were drawn for it or a version number.

    Example:
        >>> str(TreeId.parse("animals.photos@00112233aabb"))
        'animals.photos@00112233aabb'
        >>> TreeId.parse("animals.photos@v7").number
        7
    """

    dataset: str
    key: str

    @classmethod
    def new(cls, dataset: str) -> TreeId:
        """Returns an id that was never used."""
        return cls(dataset, uuid.uuid4().hex[:12])

    @classmethod
    def parse(cls, text: Any) -> TreeId:
        """Returns the id in a text.

        Raises:
            InvalidArgumentError: this is not an id.
        """
        dataset, separator, key = check_text(text, "dataset_id").rpartition("@")
        names = dataset.split(".")
        if not separator or len(names) != 2 or not all(NAME_PART.fullmatch(each) for each in names):
            raise _id_error(text)
        if not HEX.fullmatch(key) and not _NUMBER.fullmatch(key):
            raise _id_error(text)
        return cls(dataset, key)

    @property
    def number(self) -> int | None:
        """The version number; None if the id was drawn."""
        match = _NUMBER.fullmatch(self.key)
        return int(match[1]) if match else None

    def __str__(self) -> str:
        return f"{self.dataset}@{self.key}"


def _id_error(text: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"dataset_id={text!r:.200} is not the id of a file tree; ids look like 'project.name@0123456789ab'"
    )


def dataset_name(project: str, name: str) -> str:
    """Returns the name of the dataset that holds the trees of a project and a name."""
    return f"{slug(project)}.{slug(name)}"


def slug(text: str) -> str:
    """Returns the text if it obeys the naming rule, else a name that is made of it.

    Example:
        >>> slug("photos"), slug("My photos!")
        ('photos', 'my-photos-bf9688c2')
    """
    if NAME_PART.fullmatch(text):
        return text
    plain = re.sub("[^a-z0-9_]+", "-", text.lower()).strip("-")[:_SLUG_CHARACTERS]
    readable = plain if plain[:1].isalpha() and plain.isascii() else f"t-{plain}"[:_SLUG_CHARACTERS]
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{readable.strip('-')}-{digest}"


def check_title(value: Any, argument: str) -> str:
    """Returns a text without control characters that is not empty: a name, a project, a label or a tag."""
    if not check_text(value, argument).strip() or _CONTROL.search(value):
        raise InvalidArgumentError(f"{argument} must be text without control characters, got {value!r:.80}")
    if len(value) > 1_000:
        raise InvalidArgumentError(f"{argument} has {len(value):,} characters; use at most 1,000")
    return str(value)


def check_label(value: Any) -> str:
    """Returns a label."""
    label = check_title(value, "dataset_version")
    if len(label) > MAX_LABEL_CHARACTERS:
        raise InvalidArgumentError(f"dataset_version has {len(label)} characters; use at most {MAX_LABEL_CHARACTERS}")
    return label


def check_tags(value: Any, argument: str) -> tuple[str, ...]:
    """Returns tags: none for None, and one for a text."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (check_title(value, argument),)
    if not isinstance(value, list | tuple | set | frozenset):
        raise InvalidArgumentError(f"{argument} must be a list of texts, got {value!r:.80}")
    return tuple(dict.fromkeys(check_title(each, argument) for each in value))


def next_label(labels: Iterable[str], used: Collection[str]) -> str:
    """Returns the label after the newest semantic one of ``labels`` (newest first) that is not in ``used``.

    Example:
        >>> next_label(["final", "1.2.9"], {"final", "1.2.9", "1.2.10"})
        '1.2.11'
    """
    newest = next((match for match in map(_SEMANTIC.fullmatch, labels) if match is not None), None)
    label = FIRST_LABEL if newest is None else _bumped(newest)
    while label in used:
        match = _SEMANTIC.fullmatch(label)
        assert match is not None, "semantic"
        label = _bumped(match)
    return label


def _bumped(label: re.Match[str]) -> str:
    return f"{label[1]}.{label[2]}.{int(label[3]) + 1}"
