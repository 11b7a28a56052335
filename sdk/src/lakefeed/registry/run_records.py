"""`Run` and `Transform`: runs of code, and the code, as the registry has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from sqlalchemy import select

from lakefeed._validate import check_text
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.version_uids import random_uid
from lakefeed.errors import InvalidArgumentError
from lakefeed.provenance.origin_index import RunKey
from lakefeed.records.entities import RUN_ENTITY, TRANSFORM_ENTITY
from lakefeed.records.inserts import insert_new, now_ms
from lakefeed.records.record_registry import Registry
from lakefeed.records.record_tables import INPUT, RUN, TRANSFORM
from lakefeed.registry.query_results import Query
from lakefeed.registry.record_base import check_optional_text
from lakefeed.registry.record_rows import plain_rows, read_rows
from lakefeed.registry.table_record import TableRecord


class Transform(TableRecord):
    """A version of code: a script, a notebook, a function or a pipeline.

    Args:
        name: the name.
        key: the path of the script, or another name of its own; None for ``name``.
        version: the version.
        type: the kind, such as "script", "notebook" or "pipeline".
        description: a description.

    Raises:
        InvalidArgumentError: an argument is wrong.
    """

    _entity = TRANSFORM_ENTITY
    _columns: ClassVar = {
        "uid": "uid",
        "name": "name",
        "key": "key",
        "version": "version",
        "type": "kind",
        "description": "description",
        "created_at": "created",
        "updated_at": "updated",
    }

    def __init__(
        self,
        name: str,
        key: str | None = None,
        version: str | None = None,
        type: str = "script",
        description: str | None = None,
    ) -> None:
        if not check_text(name, "name").strip():
            raise InvalidArgumentError("name must not be empty")
        self._record_lake = Lake.current()
        self._row = {
            "name": name,
            "key": check_optional_text(key, "key") or name,
            "version": check_optional_text(version, "version") or "",
            "kind": check_optional_text(type, "type") or "script",
            "description": check_optional_text(description, "description"),
        }

    def save(self) -> None:
        """Stores the transform, or finds the one of this key and version. It may be called again."""
        now, row = now_ms(), dict(self._row)
        with Registry.open(self._record_lake).write() as connection:
            insert_new(connection, TRANSFORM, [{"uid": random_uid(), "created": now, "updated": now, **row}])
            same = (TRANSFORM.c.key == row["key"]) & (TRANSFORM.c.version == row["version"])
            (self._row,) = plain_rows(connection.execute(select(TRANSFORM).where(same)))

    @property
    def runs(self) -> Query[Run]:
        """The runs of the code."""
        return Run.filter(transform=self)


class Run(TableRecord):
    """A run of code, which has read and written versions. `track` begins one."""

    _entity = RUN_ENTITY
    _columns: ClassVar = {
        "uid": "uid",
        "external": "external",
        "name": "name",
        "status": "status",
        "transform": "transform",
        "parent": "parent",
        "created_by": "user",
        "started_at": "started",
        "finished_at": "finished",
        "created_at": "created",
    }

    def __init__(self) -> None:
        raise TypeError("a run is begun by track(), and found by Run.get(uid) or Run.filter()")

    def __lakefeed_lineage__(self) -> tuple[RunKey, Lake]:
        return RunKey(self._row["external"] or self._row["uid"]), self._record_lake

    @property
    def transform(self) -> Transform | None:
        """The code; None if it is not known."""
        uid = self._row["transform"]
        return None if uid is None else Transform.filter(uid=uid).one_or_none()

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters."""
        params = json.loads(self._row["params_json"] or "{}")
        return params if isinstance(params, dict) else {}

    @property
    def inputs(self) -> list[str]:
        """The uids of the records that the run has read."""
        query = select(INPUT.c.record).where(INPUT.c.run == self._row["uid"]).order_by(INPUT.c.at)
        return Registry.open(self._record_lake).read_current(lambda connection: list(connection.scalars(query)))


def run_of(lake: Lake, uid: str | None) -> Run | None:
    """Returns the run of a uid; None if there is none."""
    if uid is None:
        return None
    query = select(RUN).where(RUN.c.uid == uid)
    rows = read_rows(lake, query)
    return Run._of_row(lake, rows[0]) if rows else None


def runs_with_input(lake: Lake, uid: str) -> list[Run]:
    """Returns the runs that have read a record, oldest first."""
    readers = select(INPUT.c.run).where(INPUT.c.record == uid)
    query = select(RUN).where(RUN.c.uid.in_(readers)).order_by(RUN.c.created)
    rows = read_rows(lake, query)
    return [Run._of_row(lake, row) for row in rows]
