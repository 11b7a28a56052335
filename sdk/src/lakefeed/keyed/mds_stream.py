"""A stream of MosaicML's ``StreamingDataset`` over a scan: a shard is written when it is asked for."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakefeed import _paths
from lakefeed._validate import is_whole
from lakefeed.catalog.lake import Lake
from lakefeed.dataset.core import dataset_of
from lakefeed.errors import InvalidArgumentError, MissingDependencyError, StateMismatchError
from lakefeed.formats.mds_shards import (
    INDEX_FILE,
    OFFSET_BYTES,
    MDSLayout,
    ShardBuilder,
    index_text,
    sample_sizes,
    shard_file,
)
from lakefeed.keyed.key_ranges import Shard, check_shards
from lakefeed.keyed.scan_source import ScanSource
from lakefeed.ops import Scan as SourceScan
from lakefeed.plan.fingerprint import digest
from lakefeed.run.mds_folder import write_file
from lakefeed.storage.disk.atomic_write import publish
from lakefeed.storage.disk.disk_errors import storage_errors
from lakefeed.storage.urls import expand_home

if TYPE_CHECKING:
    from lakefeed.dataset import Dataset
    from lakefeed.keyed.keyed_scan import Scan

BLOCK_ROWS = 8_192
SAMPLE_ROWS = 16
CACHE_FOLDER = "mds"


@dataclass(eq=False)
class ScanStream:
    """A stream for ``StreamingDataset(streams=[stream], …)``. It has the methods and attributes of its ``Stream``.

    Each shard of the scan is a shard file, which is written by the process that needs it first. Picklable. The index
    says how many samples each shard has; the sizes of files in it are estimates.

    Attributes:
        lake: the lake.
        state: the scan as JSON.
        shards: the shards, with the numbers of their rows.
        local: the folder of the shard files.
        block_rows: the rows that are encoded at a time.
    """

    lake: Lake
    state: str
    shards: tuple[Shard, ...]
    local: str
    block_rows: int = BLOCK_ROWS
    remote: None = field(default=None, init=False)
    split: str = field(default="", init=False)
    safe_keep_zip: bool = field(default=True, init=False)

    @classmethod
    def of(cls, scan: Scan, shards: Sequence[Shard], cache_dir: Any, block_rows: Any) -> ScanStream:
        """Returns the stream of some shards of a scan; see `Scan.to_streaming`."""
        check_shards(shards)
        if block_rows is not None and (not is_whole(block_rows) or block_rows < 1):
            raise InvalidArgumentError(
                f"shard_row_block_size must be a number of rows of at least 1, got {block_rows!r}"
            )
        lake, state = scan.reader.base.lake, scan.state_json()
        folder = lake.settings.cache / CACHE_FOLDER if cache_dir is None else _check_folder(cache_dir)
        counted = tuple(ScanSource.of(scan.reader, state, shards).counted_shards())
        # Files of other rows are in another folder, so a folder can be used again.
        local = folder / digest((state, counted))
        return cls(lake, state, counted, str(local), BLOCK_ROWS if block_rows is None else int(block_rows))

    def apply_default(self, default: Mapping[str, Any]) -> None:
        """Takes the defaults of a ``StreamingDataset``. None of them applies: nothing is downloaded."""

    def get_shards(self, world: Any, allow_unsafe_types: bool) -> list[Any]:
        """Returns a reader of each shard, and writes the index.

        Args:
            world: not used.
            allow_unsafe_types: not used: no column is pickled.

        Raises:
            MissingDependencyError: mosaicml-streaming is not installed.
        """
        try:
            from streaming.base.format import reader_from_json
        except ModuleNotFoundError as error:
            raise MissingDependencyError("this needs MosaicML's streaming: pip install mosaicml-streaming") from error
        self.write_index()
        return [reader_from_json(self.local, self.split, entry) for entry in self._entries]

    def set_up_local(self, shards: Sequence[Any], cache_usage_per_shard: Any) -> None:
        """Notes the sizes of the shards that are there.

        Args:
            shards: the readers.
            cache_usage_per_shard: the sizes, an array that is changed.
        """
        for number, shard in enumerate(shards):
            cache_usage_per_shard[number] = shard.get_raw_size() if self._path(number).is_file() else 0

    def prepare_shard(self, shard: Any) -> int:
        """Writes a shard if it is missing, and returns by how much the folder has grown.

        Args:
            shard: the reader.
        """
        number = int(shard.raw_data.basename.split(".")[1])
        return int(shard.get_raw_size()) if self.write_shard(number) else 0

    def get_index_size(self) -> int:
        """Returns the size of the index in bytes."""
        return (Path(self.local) / INDEX_FILE).stat().st_size

    def write_index(self) -> None:
        """Writes the index."""
        self._write(Path(self.local) / INDEX_FILE, [index_text(self._entries).encode()])

    def write_shard(self, number: int) -> bool:
        """Writes the file of a shard, and returns whether it was missing.

        Args:
            number: the number of the shard.

        Raises:
            StateMismatchError: the shard has another number of rows than the index says.
        """
        path = self._path(number)
        if path.is_file():
            return False
        shard, first_row = ShardBuilder(self._layout), 0
        batches = self._rows(self.shards[number]).batches(self.block_rows, format="arrow", load_files=False)
        for batch in batches:
            shard.add(self._layout.samples(batch, first_row))
            first_row += batch.num_rows
        if shard.samples != self.shards[number].cardinality:
            raise StateMismatchError(f"{shard_file(number)} has {shard.samples} rows, and not those of the index")
        self._write(path, shard.pieces())
        return True

    @cached_property
    def _layout(self) -> MDSLayout:
        return MDSLayout.of(self._rows().schema, None)

    @cached_property
    def _entries(self) -> list[dict[str, Any]]:
        layout, width = self._layout, OFFSET_BYTES + self._sample_width()
        rows = [shard.cardinality or 0 for shard in self.shards]
        sizes = [layout.empty_bytes + count * width for count in rows]
        return [layout.index_entry(number, rows[number], size) for number, size in enumerate(sizes)]

    def _sample_width(self) -> int:
        """Returns the bytes of a sample, estimated by the first ones."""
        for batch in self._rows(*self.shards[:1]).head(SAMPLE_ROWS).batches(format="arrow", load_files=False):
            return math.ceil(float(sample_sizes(self._layout.samples(batch, 0)).mean()))
        return 1

    def _rows(self, *shards: Shard) -> Dataset:
        plan = SourceScan(ScanSource(self.lake, self.state, shards))
        return dataset_of(self.lake, plan).load_files("bytes")

    def _path(self, number: int) -> Path:
        return Path(self.local) / shard_file(number)

    def _write(self, path: Path, pieces: Any) -> None:
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        write_file(temporary, pieces)
        publish(temporary, path)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_layout", "_entries")}


def _check_folder(folder: Any) -> Path:
    text = os.fspath(folder) if isinstance(folder, str | os.PathLike) else None
    if not isinstance(text, str) or not _paths.is_storable(text) or "://" in text:
        raise InvalidArgumentError(f"cache_dir must be the path of a local folder, or None, got {folder!r:.80}")
    return Path(expand_home(text)).absolute()
