"""The facts of a new version: chosen before its commit, and written with its rows."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Final

from lakefeed.catalog.action import Provenance
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import HASH, LABEL, RECORD
from lakefeed.records.version_rows import TYPED_LABELS
from lakefeed.trees.tree_identity import slug

MAX_NUMBER: Final = 10
"""A dataset whose name is taken gets a number below this one, or else a text that is drawn."""
MAX_DRAWN: Final = 100


@dataclass(frozen=True)
class RecordProvenance(Provenance):
    """Who writes a version, with the facts of its record.

    Attributes:
        entries: further entries of the snapshot summary.
    """

    entries: Mapping[str, str] = field(default_factory=dict)

    def summary_entries(self) -> dict[str, str]:
        """Returns the entries of the snapshot summary."""
        return {**super().summary_entries(), **self.entries}


@dataclass(frozen=True)
class VersionFacts:
    """The facts of a new version.

    Attributes:
        name: the name of its record.
        token: a text of its own, so that a repeated save makes one version.
        description: the description.
        reference: the reference.
        reference_type: the type of the reference.
        labels: the types and names of its labels.
        feature_sets: the names of its features, by slot.
        label: the version label that was asked for; None for the next number.
        hash: the hash of its content; empty until it is known.
        run: the id of its run; None for the current one.
        user: who writes; None for the user of the operating system.
        form: the form of its data: "table", "tree" or "files".
        columns: the names of its columns, if its dataset has others, too.
        index: the columns that are the index of a DataFrame, and the names of its levels.
        dataset: the name of the dataset whose next version it is; None for a new one.
        used: the labels of the versions of that dataset, also of those that were deleted, newest first.
    """

    name: str
    token: str
    description: str | None = None
    reference: str | None = None
    reference_type: str | None = None
    labels: Sequence[tuple[str, str]] = ()
    feature_sets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    label: str | None = None
    hash: str = ""
    run: str | None = None
    user: str | None = None
    form: str = "table"
    columns: Sequence[str] = ()
    index: Sequence[tuple[str, str | None]] = ()
    dataset: str | None = None
    used: Sequence[str] = ()

    def with_hash(self, hash: str) -> VersionFacts:
        """Returns the facts with the hash of the content."""
        return replace(self, hash=hash)

    def entries(self, label: str | None = None) -> dict[str, str]:
        """Returns the entries of the snapshot summary. ``label`` is None where the writer of the rows records it."""
        entries = {HASH: self.hash, RECORD: json.dumps(self._record(), separators=(",", ":"))}
        return entries if label is None else {**entries, LABEL: label}

    def provenance(self, label: str | None = None) -> RecordProvenance:
        """Returns who writes, with the entries."""
        return RecordProvenance(run=self.run, user=self.user, entries=self.entries(label))

    def _record(self) -> dict[str, Any]:
        typed: dict[str, list[str]] = {}
        for kind, name in self.labels:
            if kind:
                typed.setdefault(kind, []).append(name)
        facts: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "reference": self.reference,
            "reference_type": self.reference_type,
            "labels": [name for kind, name in self.labels if not kind],
            TYPED_LABELS: typed,
            "feature_sets": {slot: list(names) for slot, names in self.feature_sets.items()},
            "token": self.token,
            "form": self.form,
            "columns": list(self.columns),
            "index": list(self.index),
        }
        return {name: value for name, value in facts.items() if value}


def candidate_names(lake: Lake, name: str) -> Iterator[str]:
    """Yields names for a new dataset, the best first. Another dataset may have one of them.

    A name of which a dataset was deleted is not used again, so that the first version has the number 1.
    """
    base = slug(name)
    short = base[:54].rstrip("-_")
    numbered = (f"{short}-{number}" for number in range(2, MAX_NUMBER))
    drawn = (f"{short}-{secrets.token_hex(4)}" for _ in range(MAX_DRAWN))
    for candidate in chain([base], numbered, drawn):
        if not lake.deletions(candidate):
            yield candidate
