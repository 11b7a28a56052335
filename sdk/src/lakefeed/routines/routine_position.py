"""How far a routine has come, and the text under which that stands in the output's fence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

NOTHING = "-"
_TEXT = re.compile(r"(?P<uuid>.+)@v(?P<version>\d+)(?:,v(?P<within>\d+):(?P<rows>\d+))?")


@dataclass(frozen=True)
class Position:
    """Everything up to ``version`` of the table ``table_uuid`` is done, and ``rows`` rows of version ``within``."""

    table_uuid: str
    version: int
    within: int | None = None
    rows: int = 0

    def __str__(self) -> str:
        part = f",v{self.within}:{self.rows}" if self.within is not None else ""
        return f"{self.table_uuid}@v{self.version}{part}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """The position that ``str()`` wrote.

        Example:
            >>> Position.parse("0b5a@v3")
            Position(table_uuid='0b5a', version=3, within=None, rows=0)
        """
        found = _TEXT.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no position of a routine")
        within = int(found["within"]) if found["within"] else None
        return cls(found["uuid"], int(found["version"]), within, int(found["rows"] or 0))


def to_text(positions: Sequence[Position | None]) -> str | None:
    """The fence's value for the positions in each source; None where there is none at all.

    Example:
        >>> to_text([Position("a", 1), None])
        'a@v1;-'
    """
    if all(each is None for each in positions):
        return None
    return ";".join(NOTHING if each is None else str(each) for each in positions)


def from_text(text: str | None, sources: int) -> tuple[Position | None, ...]:
    """What `to_text` wrote.

    Example:
        >>> from_text("a@v1;-", 2)
        (Position(table_uuid='a', version=1, within=None, rows=0), None)
    """
    if text is None:
        return (None,) * sources
    return tuple(None if part == NOTHING else Position.parse(part) for part in text.split(";"))
