"""Features, which are the measured columns; sets of them; and which records have which sets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from lakefeed.catalog.version_uids import random_uid, text_uid
from lakefeed.records.inserts import chunks, insert_new, now_ms, pairs
from lakefeed.records.record_tables import FEATURE, FEATURE_SET, FEATURE_SET_MEMBER, RECORD_FEATURE_SET

FEATURE_CHARACTERS = 12


def ensure_features(connection: Connection, features: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Returns the uids of features by name. Features that do not exist are made of the mappings, which have a name."""
    wanted = {each["name"]: each for each in features}
    uids = find_features(connection, list(wanted))
    fresh = {"uid": "", "dtype": None, "unit": None, "label_type": None, "description": None, "user": None}
    new = [
        {**fresh, **each, "uid": random_uid(FEATURE_CHARACTERS), "created": now_ms()}
        for name, each in wanted.items()
        if name not in uids
    ]
    insert_new(connection, FEATURE, new)
    return uids if not new else find_features(connection, list(wanted))


def find_features(connection: Connection, names: Sequence[str]) -> dict[str, str]:
    """Returns the uids of the features that exist, by name."""
    uids: dict[str, str] = {}
    for chunk in chunks(names):
        query = select(FEATURE.c.name, FEATURE.c.uid).where(FEATURE.c.name.in_(chunk))
        uids |= pairs(connection, query)
    return uids


def feature_set_hash(names: Iterable[str]) -> str:
    """Returns the hash of a set of features. The order of the names does not matter."""
    return hashlib.sha256(json.dumps(sorted(set(names))).encode()).hexdigest()


def ensure_feature_set(connection: Connection, names: Sequence[str], name: str | None = None) -> str:
    """Returns the uid of the set of the features of these names. The set and its features are made if they are new."""
    members = list(dict.fromkeys(names))
    key = feature_set_hash(members)
    uid = text_uid(key)
    if connection.scalar(select(FEATURE_SET.c.uid).where(FEATURE_SET.c.uid == uid)) is None:
        features = ensure_features(connection, ({"name": each} for each in members))
        row = {"uid": uid, "hash": key, "name": name, "n": len(members), "created": now_ms()}
        insert_new(connection, FEATURE_SET, [row])
        rows = [
            {"feature_set": uid, "feature": features[each], "ordinal": ordinal} for ordinal, each in enumerate(members)
        ]
        insert_new(connection, FEATURE_SET_MEMBER, rows)
    return uid


def attach(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Gives records feature sets: rows of a record, a slot, and the uid of a set or the names of its features."""
    resolved = [
        {**row, "feature_set": ensure_feature_set(connection, row["feature_set"])}
        if isinstance(row["feature_set"], list)
        else dict(row)
        for row in rows
    ]
    insert_new(connection, RECORD_FEATURE_SET, resolved)
