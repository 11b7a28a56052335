"""`Operation`, a part of a transaction that travels to another process, as JSON."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, get_args

import pyarrow as pa
from pyiceberg.manifest import DataFile

from lakefeed._validate import check_text
from lakefeed.catalog.staged_files import dump_file, load_file
from lakefeed.errors import FormatError, InvalidArgumentError, MissingFileError
from lakefeed.storage.disk.atomic_write import publish, staged_file, sync_directories, sync_file

FORMAT: Final = 1

Kind = Literal["rows", "delete_keys", "drop_columns", "column_files", "compact"]


@dataclass(frozen=True)
class Operation:
    """A part of a transaction: `Transaction.take` returns some, and `Transaction.include` takes them in.

    Its rows are in files that were written and that no version names yet. An operation is JSON (`to_json`), never a
    pickle.

    Attributes:
        kind: "rows", "delete_keys", "drop_columns", "column_files" or "compact".
        table: the name of the table.
        table_uuid: identifies the table.
        base: the version that was the newest when the transaction began.
        columns: the columns that it writes or drops; dots lead into structs.
        rows: the number of rows.
        files: the files, as facts with statistics.
        base_file: the data file whose rows a column file belongs to.
        inputs: the column files that this data file had.
        field_ids: the columns of the files as Iceberg fields. If the table has the same ones at the commit, the files
            become files of the table as they are.
        schema: the types of the columns.
        id: identifies the operation.

    Example:
        >>> table = Table.create("travelled", key_schema={"id": pa.int64()})
        >>> worker = table.txn()
        >>> worker.write({"id": [1, 2], "x": [10, 20]})
        >>> (operation,) = worker.take()
        >>> operation.kind, operation.rows, operation.columns
        ('rows', 2, ('id', 'x'))
        >>> with table.txn() as txn:
        ...     txn.include([Operation.from_json(operation.to_json())])
        >>> table.scan().to_table().num_rows
        2
    """

    kind: Kind
    table: str
    table_uuid: str
    base: int
    columns: tuple[str, ...] = ()
    rows: int = 0
    files: tuple[DataFile, ...] = field(default=(), repr=False)
    base_file: str = ""
    inputs: tuple[str, ...] = field(default=(), repr=False)
    field_ids: tuple[str, ...] = field(default=(), repr=False)
    schema: pa.Schema | None = field(default=None, repr=False)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of the files."""
        return tuple(file.file_path for file in self.files)

    def to_json(self) -> str:
        """Returns the operation as one line of JSON."""
        facts = {each.name: getattr(self, each.name) for each in fields(self)}
        schema = None if self.schema is None else base64.b64encode(self.schema.serialize().to_pybytes()).decode()
        return json.dumps({"format": FORMAT, **facts, "files": [*map(dump_file, self.files)], "schema": schema})

    @classmethod
    def from_json(cls, text: Any) -> Operation:
        """Returns the operation of a line of JSON.

        Args:
            text: what `to_json` returned.

        Raises:
            FormatError: this is not an operation.
        """
        try:
            return _loaded(json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, pa.ArrowException) as error:
            raise FormatError(
                f"this is not an operation of a transaction ({type(error).__name__}: {error!s:.80}): {text!r:.80}"
            ) from None


def _loaded(facts: Any) -> Operation:
    if facts.pop("format") != FORMAT:
        raise ValueError("it has another format")
    kinds = {"table": str, "table_uuid": str, "base": int, "rows": int, "base_file": str, "id": str}
    for name, kind in kinds.items():
        if not isinstance(facts[name], kind) or isinstance(facts[name], bool):
            raise TypeError(f"{name} is {facts[name]!r:.80}")
    if facts["kind"] not in get_args(Kind):
        raise ValueError(f"kind is {facts['kind']!r:.80}")
    for name in ("columns", "inputs", "field_ids"):
        if not isinstance(facts[name], list) or not all(isinstance(each, str) for each in facts[name]):
            raise TypeError(f"{name} is {facts[name]!r:.80}")
        facts[name] = tuple(facts[name])
    facts["files"] = tuple(load_file(each) for each in facts["files"])
    if facts["schema"] is not None:
        facts["schema"] = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(facts["schema"], validate=True)))
    needs_files = facts["kind"] in ("rows", "delete_keys", "column_files")
    if needs_files and facts["schema"] is None:
        raise ValueError("it has no schema")
    if facts["kind"] == "column_files" and len(facts["files"]) != 1:
        raise ValueError("it has no column file")
    if not facts["id"].isalnum():
        raise ValueError(f"id is {facts['id']!r:.80}")
    return Operation(**facts)


def check_operations(operations: Any) -> tuple[Operation, ...]:
    """Returns the operations that were given.

    Raises:
        InvalidArgumentError: an item is something else, or an operation occurs twice.
    """
    if not isinstance(operations, list | tuple) or not all(isinstance(each, Operation) for each in operations):
        raise InvalidArgumentError(f"ops must be a list of operations, as take() returns it, got {operations!r:.80}")
    return tuple(operations)


def write_dump(path: Any, operations: Iterable[Operation]) -> None:
    """Writes operations to a file, one a line. The file appears complete or not at all.

    Raises:
        InvalidArgumentError: this is not a path.
        StorageError: the file cannot be written.
    """
    lines = "".join(f"{operation.to_json()}\n" for operation in operations)
    write_durably(check_path(path, "txn_dump"), lines)


def write_durably(path: Path, text: str) -> None:
    """Writes a text file, which appears complete or not at all, and survives a power cut.

    Raises:
        StorageError: the file cannot be written.
    """
    with staged_file(path.parent / f".{path.name}.parts") as (temporary, stream):
        stream.write(text.encode())
        sync_file(stream)
        publish(temporary, path)
    sync_directories([path.parent])
    for folder in (temporary.parent, temporary.parent.parent):
        with suppress(OSError):  # another process writes, too
            folder.rmdir()


def check_path(value: Any, name: str) -> Path:
    """Returns the path of a file or folder.

    Raises:
        InvalidArgumentError: this is not a path.
    """
    path = value if isinstance(value, Path) else Path(check_text(value, name)).expanduser()
    if not path.name:
        raise InvalidArgumentError(f"{name} must be the path of a file, got {value!r:.80}")
    return path


def load_dumps(paths: Sequence[Any]) -> list[Operation]:
    """Returns the operations of dumps, each once.

    Raises:
        MissingFileError: a dump does not exist.
        FormatError: a line is not an operation; the message names the file and the line.
    """
    loaded: dict[str, Operation] = {}
    for path in [check_path(each, "txn_dump") for each in paths]:
        try:
            lines = path.read_text("utf-8").splitlines()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise MissingFileError(f"there is no dump of a transaction at {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise FormatError(f"{path} is not a dump of a transaction, because it is not text") from None
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    operation = Operation.from_json(line)
                except FormatError as error:
                    raise FormatError(f"{path}, line {number}: {error}") from None
                loaded.setdefault(operation.id, operation)
    return list(loaded.values())
