"""Files that a run has made, such as models: contents of the blob store, registered as outputs of the run."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from lakefeed import _paths
from lakefeed._validate import check_text
from lakefeed.catalog import current_run
from lakefeed.catalog.current_run import Output
from lakefeed.catalog.lake import Lake
from lakefeed.errors import FileError, InvalidArgumentError, MissingFileError
from lakefeed.provenance import run_store
from lakefeed.provenance.origin_index import FileKey
from lakefeed.records.record_registry import Registry
from lakefeed.run.write_context import content_saving

if TYPE_CHECKING:
    from lakefeed.provenance.run_recorder import RunRecorder


@dataclass(frozen=True)
class LoggedFile:
    """A file that a run has registered.

    Attributes:
        uid: its uid in the registry.
        name: the name.
        sha256: the SHA-256 of its content.
        size: the number of bytes.
        run: the id of the run.
    """

    uid: str
    name: str
    sha256: str
    size: int
    run: str
    _lake: Lake | None = field(default=None, repr=False, compare=False)

    def read(self) -> bytes:
        """Returns the content, from the blob store."""
        lake = Lake.current() if self._lake is None else self._lake
        return lake.blobs.read(self.sha256)

    def __lakefeed_lineage__(self) -> tuple[FileKey, Lake]:
        return FileKey(self.uid), Lake.current() if self._lake is None else self._lake


def log_file(lake: Lake, recorder: RunRecorder, path: Any, key: Any) -> LoggedFile:
    """Stores and registers a file. See `Run.log_file`."""
    file = _check_path(path)
    name = file.name if key is None else check_text(key, "key").rsplit("/", 1)[-1]
    if not name:
        raise InvalidArgumentError(f"key={key!r:.80}: give the name under which the file is registered")
    with content_saving(lake) as (writer, check):
        with _open_file(file) as source:
            blob = writer.put_large(source)
        writer.flush()
        check()
        recorder.flush()
        with recorder.exclusive(), Registry.open(lake).write() as connection:
            fact = run_store.add_file(
                connection, recorder.record, name, name if key is None else key, blob.sha256, blob.size
            )
    current_run.add_output(Output(fact.name, fact.sha256, None, fact.size))
    return LoggedFile(fact.uid, fact.name, fact.sha256, fact.size, recorder.record.id, lake)


def _check_path(path: Any) -> Path:
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str) or not _paths.is_storable(text):
        raise InvalidArgumentError(f"path must be the path of a file, got {path!r:.80}")
    return Path(text)


def _open_file(file: Path) -> BinaryIO:
    try:
        mode = file.stat().st_mode
        source = file.open("rb") if stat.S_ISREG(mode) else None  # to open a pipe would wait for its writer
    except FileNotFoundError as error:
        raise MissingFileError(f"there is no file at path {str(file)!r}") from error
    except OSError as error:
        raise FileError(f"the file at path {str(file)!r:.200} cannot be read: {error.strerror}") from error
    if source is None and stat.S_ISDIR(mode):
        raise FileError(f"path {str(file)!r} is a folder; log its files, or save them as a FileTree")
    if source is None:
        raise FileError(f"path {str(file)!r} is no regular file; log a copy that is one")
    return source
