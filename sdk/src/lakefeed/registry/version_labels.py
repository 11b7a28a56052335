"""The labels of versions in a chain, which are unique."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from lakefeed._validate import check_text
from lakefeed.catalog.ancestry import ancestry
from lakefeed.catalog.properties import LABEL
from lakefeed.catalog.versions import version_number
from lakefeed.errors import InvalidArgumentError, quoted_list

if TYPE_CHECKING:
    from pyiceberg.table import Table

MAX_CHARACTERS = 128


def check_label(value: Any) -> str:
    """Returns a label of a version.

    Raises:
        InvalidArgumentError: it is not text, is empty or too long, or has control characters.
    """
    label = check_text(value, "version")
    if not label.strip() or len(label) > MAX_CHARACTERS or not label.isprintable():
        raise InvalidArgumentError(f"version must be 1 to {MAX_CHARACTERS} printable characters, got {value!r:.200}")
    return label


def used_labels(table: Table) -> list[str]:
    """Returns the labels of the versions of a table, newest first; of one without a label, its number."""
    labels = []
    for snapshot in ancestry(table):
        label = None if snapshot.summary is None else snapshot.summary.additional_properties.get(LABEL)
        labels.append(label or str(version_number(snapshot)))
    return labels


def choose_label(wanted: str | None, used: Collection[str]) -> str:
    """Returns the label of the next version: the wanted one, or the next number.

    Raises:
        InvalidArgumentError: another version has the wanted label.

    Example:
        >>> choose_label(None, ["2", "1"]), choose_label(None, ["3", "1"])
        ('3', '4')
    """
    if wanted is None:
        number = len(used) + 1
        while str(number) in used:
            number += 1
        return str(number)
    if wanted in used:
        raise InvalidArgumentError(
            f"version {wanted!r} is taken: labels are unique in a chain, and this one has {quoted_list(used)}"
        )
    return wanted
