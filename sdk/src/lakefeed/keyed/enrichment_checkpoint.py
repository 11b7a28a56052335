"""The checkpoint of an enrichment that workers derive: a folder with a file for each part that is done.

The names of its files begin with a digest of the columns, the condition and the versions of the other tables. So
several enrichments may share a folder, and a part is used again only for the same values.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lakefeed import _paths
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.staged_files import mark_staged, unmark_staged
from lakefeed.errors import FormatError, InvalidArgumentError
from lakefeed.keyed.enrichment_tasks import DerivedPart
from lakefeed.keyed.key_ranges import KeyRange
from lakefeed.keyed.scan_reader import ScanReader
from lakefeed.keyed.transaction_operations import Operation, check_path, write_durably
from lakefeed.plan.fingerprint import digest

logger = logging.getLogger(__name__)

FORMAT = 1


def enrichment_digest(reader: ScanReader, table_uuid: str, ranges: Sequence[KeyRange] | None) -> str:
    """Returns a digest of what decides the values of an enrichment, apart from the rows of the table itself.

    A function counts by what it computes.
    """
    others = [(table.version.table_uuid, table.version.snapshot_id, table.schema_id) for table in reader.tables[1:]]
    return digest((table_uuid, reader.tree, reader.where, others, None if ranges is None else tuple(ranges)))


@dataclass
class Checkpoint:
    """The parts of an enrichment that are done.

    Attributes:
        lake: the lake.
        folder: the folder; None for a checkpoint in memory, which ends with the process.
        digest: identifies the enrichment.
        run: identifies the run, which makes one commit.
        parts: the parts that are done.
    """

    lake: Lake
    folder: Path | None
    digest: str
    run: str
    parts: list[DerivedPart] = field(default_factory=list)

    @classmethod
    def open(cls, lake: Lake, folder: Any, digest: str) -> Checkpoint:
        """Returns the checkpoint of an enrichment, which may be new.

        Raises:
            InvalidArgumentError: ``folder`` is not a path, or a file.
            FormatError: a file of the checkpoint is damaged.
        """
        if folder is None:
            return cls(lake, None, digest, uuid.uuid4().hex)
        path = check_path(folder, "checkpoint_dump")
        if _paths.exists(path) and not _paths.is_folder(path):
            raise InvalidArgumentError(f"checkpoint_dump={str(path)!r} is a file; give a folder")
        checkpoint = cls(lake, path, digest, _run_of(path / f"{digest}.json"))
        checkpoint.parts = [_read_part(each) for each in sorted(path.glob(f"{digest}-*.json"))]
        if checkpoint.parts:
            logger.info("%d parts are done, by the checkpoint in %s", len(checkpoint.parts), path)
        return checkpoint

    def add(self, part: DerivedPart) -> None:
        """Records a part that is done."""
        self.parts.append(part)
        if self.folder is not None:
            if part.operation is not None:
                mark_staged(self.lake, part.operation.id, part.operation.paths)
            write_durably(self._path(part), json.dumps(_dump(part)) + "\n")

    def remove(self, parts: Iterable[DerivedPart]) -> None:
        """Forgets parts. Their files may then be collected as garbage."""
        for part in list(parts):
            self.parts.remove(part)
            if self.folder is not None:
                self._path(part).unlink(missing_ok=True)
                unmark_staged(self.lake, [] if part.operation is None else [part.operation.id])

    def end(self) -> None:
        """Removes the checkpoint: the enrichment is committed."""
        self.remove(self.parts)
        if self.folder is not None:
            (self.folder / f"{self.digest}.json").unlink(missing_ok=True)
            with suppress(OSError):  # it has other files
                self.folder.rmdir()

    def _path(self, part: DerivedPart) -> Path:
        assert self.folder is not None, "the caller has checked it"
        first, stop = part.groups
        return self.folder / f"{self.digest}-{digest((part.path, part.inputs))}-{first}-{stop}.json"


def _run_of(path: Path) -> str:
    """Returns the id of the run, which the first process that uses the checkpoint draws."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        new = path.with_name(f".{uuid.uuid4().hex}")
        write_durably(new, json.dumps({"format": FORMAT, "run": uuid.uuid4().hex}) + "\n")
        with suppress(FileExistsError):
            os.link(new, path)
        new.unlink()
    facts = _load(path)
    if not isinstance(facts.get("run"), str):
        raise _damaged(path, "it has no run")
    return str(facts["run"])


def _dump(part: DerivedPart) -> dict[str, Any]:
    operation = None if part.operation is None else json.loads(part.operation.to_json())
    return {
        "format": FORMAT,
        "path": part.path,
        "groups": part.groups,
        "inputs": part.inputs,
        "has_rows": part.has_rows,
        "operation": operation,
    }


def _read_part(path: Path) -> DerivedPart:
    facts = _load(path)
    try:
        first, stop = facts["groups"]
        given = facts["operation"]
        operation = None if given is None else Operation.from_json(json.dumps(given))
        return DerivedPart(
            str(facts["path"]), (int(first), int(stop)), tuple(facts["inputs"]), operation, bool(facts["has_rows"])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, repr(error)) from None


def _load(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise _damaged(path, "it has another format")
    return facts


def _damaged(path: Path, reason: str) -> FormatError:
    return FormatError(f"{path} is not of a checkpoint ({reason:.80}); remove it, and its part is derived again")
