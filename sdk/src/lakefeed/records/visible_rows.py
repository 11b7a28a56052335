"""The records that queries show: visibility is the choice of users, presence a fact of the lake."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from sqlalchemy import ColumnElement, and_

from lakefeed.records.record_tables import RECORD, Presence


class Visibility(IntEnum):
    """The visibility of a record.

    Queries show those of DEFAULT unless they say otherwise. GONE is that of a record whose version expired or was
    deleted; nobody can set it.
    """

    DEFAULT = 0
    HIDDEN = 1
    TRASH = 2
    GONE = 3

    @classmethod
    def of(cls, visibility: int, presence: int) -> Visibility:
        """Returns the visibility of a record of these two columns."""
        if presence in (Presence.GONE, Presence.PENDING):
            return cls.GONE
        return cls.TRASH if presence == Presence.DATASET_IN_TRASH else cls(visibility)


LISTED: Final[ColumnElement[bool]] = and_(
    RECORD.c.presence == int(Presence.PRESENT), RECORD.c.visibility < int(Visibility.TRASH)
)
"""The records that exist and are not in the trash."""


def visibility_condition(visibility: Visibility) -> ColumnElement[bool]:
    """Returns the condition that records have a visibility."""
    present = RECORD.c.presence == int(Presence.PRESENT)
    match visibility:
        case Visibility.GONE:
            return RECORD.c.presence == int(Presence.GONE)
        case Visibility.TRASH:
            trashed = RECORD.c.presence == int(Presence.DATASET_IN_TRASH)
            return (present & (RECORD.c.visibility == int(visibility))) | trashed
        case _:
            return present & (RECORD.c.visibility == int(visibility))
