"""The base of records of datasets and files: their fields, and the rule that saved ones hardly change."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

from lakefeed._validate import check_text
from lakefeed.catalog.lake import Lake
from lakefeed.errors import (
    CatalogUnavailableError,
    ImmutableRecordError,
    InvalidArgumentError,
    RecordNotFoundError,
    UnsavedDatasetError,
    quoted_list,
)
from lakefeed.records.record_tables import Presence
from lakefeed.registry import record_rows
from lakefeed.registry.record_rows import RecordRow
from lakefeed.registry.visibility import Visibility

EDITABLE: Final = ("description", "reference", "reference_type", "visibility")
"""The fields of a saved record that may be set. `save` stores them."""
NEW: Final = (*EDITABLE, "name", "key", "version")
"""The fields of a new record that may be set."""


def time_of(milliseconds: int | None) -> dt.datetime | None:
    """Returns a time with the zone UTC."""
    return None if milliseconds is None else dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC)


def check_optional_text(value: Any, name: str) -> str | None:
    """Returns a text or None."""
    return None if value is None else check_text(value, name)


def check_visibility(value: Any) -> Visibility:
    """Returns a visibility.

    Raises:
        InvalidArgumentError: there is no such visibility.
    """
    try:
        if isinstance(value, bool):
            raise ValueError(value)
        return Visibility(value)
    except (ValueError, TypeError):
        raise InvalidArgumentError(
            f"visibility must be 0 (default), 1 (hidden) or 2 (trash), got {value!r:.80}"
        ) from None


class Record:
    """A record of the registry: new, or saved.

    Attributes that begin with an underscore are the state; the others are fields.
    """

    _record_lake: Lake
    _row: RecordRow | None
    _values: dict[str, Any]

    @classmethod
    def _of_row(cls, lake: Lake, row: RecordRow) -> Any:
        record = cls.__new__(cls)
        record._record_lake, record._row, record._values = lake, row, {}
        return record

    def _field(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        return None if self._row is None else self._row[name]

    def _require_row(self, method: str) -> RecordRow:
        if self._row is None:
            raise UnsavedDatasetError(f"{method}: {self!r} is not saved yet; call save() first")
        return self._row

    def _current_row(self, method: str) -> RecordRow:
        """Returns the row as it is now: another process may have changed the record, or moved its dataset."""
        row = self._require_row(method)
        try:
            found = record_rows.find_row(self._record_lake, row["uid"])
        except CatalogUnavailableError:
            return row  # the table may be readable although the registry is not
        self._row = found or {**row, "presence": int(Presence.GONE)}
        return self._row

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        elif not hasattr(type(self), name):
            raise AttributeError(f"{type(self).__name__} has no field {name!r}")
        elif name not in (NEW if self._row is None else EDITABLE):
            state = "a new" if self._row is None else "a saved"
            raise ImmutableRecordError(
                f"{name} of {state} {type(self).__name__} cannot be set; {quoted_list(EDITABLE)} and labels can. "
                "Other content is a new version: is_new_version_of=…"
            )
        else:
            self._values[name] = self._checked(name, value)

    @staticmethod
    def _checked(name: str, value: Any) -> Any:
        return check_visibility(value) if name == "visibility" else check_optional_text(value, name)

    def _save_changes(self) -> None:
        """Stores fields that were set since the record was saved."""
        row, changes = self._current_row("save"), dict(self._values)
        if row["presence"] == Presence.GONE:
            raise RecordNotFoundError(f"{self!r} was deleted for good, or has expired; save its data as a new record")
        if changes:
            record_rows.update_record(self._record_lake, row["uid"], changes)
            self._reload()

    def _reload(self) -> None:
        self._row, self._values = record_rows.reload_row(self._record_lake, self._require_row("save")["uid"]), {}

    # ------------------------------------------------------------------------------------- fields

    @property
    def id(self) -> int | None:
        """The number of the record in this registry; None before `save`."""
        id: int | None = self._field("id")
        return id

    @property
    def uid(self) -> str | None:
        """The global id; None before `save`."""
        uid: str | None = self._field("uid")
        return uid

    @property
    def description(self) -> str | None:
        """The description."""
        description: str | None = self._field("description")
        return description

    @property
    def hash(self) -> str | None:
        """The SHA-256 of the whole content, in hex; None before `save`."""
        hash: str | None = self._field("hash")
        return hash

    @property
    def reference(self) -> str | None:
        """A reference, such as a URL or an id in another system."""
        reference: str | None = self._field("reference")
        return reference

    @property
    def reference_type(self) -> str | None:
        """The type of the reference, such as "url"."""
        reference_type: str | None = self._field("reference_type")
        return reference_type

    @property
    def visibility(self) -> Visibility:
        """The visibility: default, hidden or trash."""
        value = self._field("visibility")
        if "visibility" not in self._values and self._field("presence"):  # its dataset is in the trash, or it is gone
            return Visibility.trash
        return Visibility.default if value is None else Visibility(value)

    @property
    def created_at(self) -> dt.datetime | None:
        """The time of the save, with the zone UTC; None before `save`."""
        return time_of(self._field("created"))

    @property
    def updated_at(self) -> dt.datetime | None:
        """The time of the last change, with the zone UTC; None before `save`."""
        return time_of(self._field("updated"))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record) or type(self) is not type(other):
            return NotImplemented
        return self is other or (self.uid is not None and self.uid == other.uid)

    def __hash__(self) -> int:
        return object.__hash__(self) if self.uid is None else hash(self.uid)

    def __repr__(self) -> str:
        shown: Mapping[str, Any] = {
            "uid": self.uid,
            "name": self._field("name"),
            "key": self._field("key"),
            "version": self._field("label"),
        }
        parts = ", ".join(f"{name}={value!r}" for name, value in shown.items() if value is not None)
        return f"{type(self).__name__}({parts})"
