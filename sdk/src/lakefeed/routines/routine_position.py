"""The position of a routine, and its text in the fence of the output."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

NOTHING = "-"
_VERSION = r"v(?P<{0}>\d+)(?:#(?P<{0}_id>-?\d+))?"
_TEXT = re.compile(rf"(?P<uuid>.+)@{_VERSION.format('version')}(?:,{_VERSION.format('within')}:(?P<rows>\d+))?")


@dataclass(frozen=True)
class Position:
    """Everything up to ``version`` of the table ``table_uuid`` is done, and ``rows`` rows of version ``within``.

    ``snapshot_id`` and ``within_id`` are the ids of these versions where their numbers may move.
    """

    table_uuid: str
    version: int
    within: int | None = None
    rows: int = 0
    snapshot_id: int | None = None
    within_id: int | None = None

    def __str__(self) -> str:
        part = f",{_version(self.within, self.within_id)}:{self.rows}" if self.within is not None else ""
        return f"{self.table_uuid}@{_version(self.version, self.snapshot_id)}{part}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Returns the position that ``str()`` wrote.

        Args:
            text: the text.

        Raises:
            ValueError: this is not a position.

        Example:
            >>> Position.parse("0b5a@v3")
            Position(table_uuid='0b5a', version=3, within=None, rows=0, snapshot_id=None, within_id=None)
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not the position of a routine")
        within, ids = match["within"], [match["version_id"], match["within_id"]]
        return cls(
            match["uuid"],
            int(match["version"]),
            int(within) if within else None,
            int(match["rows"] or 0),
            *(int(each) if each else None for each in ids),
        )


def _version(number: int, snapshot_id: int | None) -> str:
    return f"v{number}" if snapshot_id is None else f"v{number}#{snapshot_id}"


def to_text(positions: Sequence[Position | None]) -> str | None:
    """Returns the fence's value for the positions in all sources; None if there are none.

    Example:
        >>> to_text([Position("a", 1), None])
        'a@v1;-'
    """
    if all(each is None for each in positions):
        return None
    return ";".join(NOTHING if each is None else str(each) for each in positions)


def from_text(text: str | None, sources: int) -> tuple[Position | None, ...]:
    """Returns the positions that `to_text` wrote.

    Example:
        >>> len(from_text("a@v1;-", 2))
        2
    """
    if text is None:
        return (None,) * sources
    return tuple(None if part == NOTHING else Position.parse(part) for part in text.split(";"))


def is_position_text(text: str) -> bool:
    """Returns whether a text is the value of a routine's fence.

    Example:
        >>> is_position_text("a@v1;-"), is_position_text("s3://lake/ledger.json")
        (True, False)
    """
    return all(part == NOTHING or _TEXT.fullmatch(part) for part in text.split(";"))
