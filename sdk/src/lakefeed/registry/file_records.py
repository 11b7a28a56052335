"""`File`: a content of the blob store, or a link to a file elsewhere, as a record."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from lakefeed._validate import check_flag
from lakefeed.catalog.lake import Lake
from lakefeed.errors import InvalidArgumentError, TypeMismatchError
from lakefeed.records.version_rows import FILE_KIND
from lakefeed.registry import chain_versions, data_kinds, file_reads, file_saving, record_deletion, run_inputs
from lakefeed.registry.described_record import DescribedRecord
from lakefeed.registry.record_base import check_optional_text
from lakefeed.registry.version_labels import check_label

if TYPE_CHECKING:
    from lakefeed.arrays.mapped_cells import MappedCells


class File(DescribedRecord):
    """A file: a blob of any kind, with facts about it.

    The constructor checks types only. `save` stores the content and the record, together or not at all.

    Args:
        data: a path, a URL (which becomes a link), a DataFrame or Arrow table (stored as Parquet), or an AnnData
            (stored as .h5ad).
        key: a name, such as a path in a folder.
        description: a description.
        run: the run that creates the file; None for the current one.
        is_new_version_of: the file, or the `Dataset`, whose next version this is.
        version: the label of the version, unique in its chain; None for the next number.
        reference: a reference, such as a URL or an id in another system.
        reference_type: the type of the reference, such as "url".
        labels: labels, or their names.
        allow_duplicate: save it even if a record has this content. By default `save` takes that record.

    Raises:
        InvalidArgumentError: the data are of another type, or an argument is wrong.
        TypeMismatchError: ``is_new_version_of`` is not a File or Dataset.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("notes.txt").write_text("hello")
        >>> file = File("notes.txt", description="Notes")
        >>> file.save()
        >>> file.load()
        'hello'
    """

    _kinds = (FILE_KIND,)

    def __new__(cls, data: Any = None, *args: Any, is_new_version_of: Any = None, **options: Any) -> Any:
        from lakefeed.registry.dataset_records import Dataset

        if isinstance(is_new_version_of, Dataset):
            return chain_versions.next_of_dataset(is_new_version_of, data, *args, **options)
        return super().__new__(cls)

    def __init__(
        self,
        data: Any,
        key: str | None = None,
        description: str | None = None,
        *,
        run: Any = None,
        is_new_version_of: File | None = None,
        version: str | None = None,
        reference: str | None = None,
        reference_type: str | None = None,
        labels: Sequence[Any] | None = None,
        allow_duplicate: bool = False,
    ) -> None:
        if not isinstance(is_new_version_of, File | None):
            raise TypeMismatchError(f"is_new_version_of must be a File or a Dataset, got {is_new_version_of!r:.80}")
        self._record_lake, self._row = Lake.current(), None
        self._data = data_kinds.check_data(data)
        self._run_id, self._former = chain_versions.run_id_of(run), is_new_version_of
        self._new_labels = chain_versions.typed_labels(labels)
        self._allow_duplicate = check_flag(allow_duplicate, "allow_duplicate")
        self._values = {
            "key": check_optional_text(key, "key"),
            "description": check_optional_text(description, "description"),
            "version": None if version is None else check_label(version),
            "reference": check_optional_text(reference, "reference"),
            "reference_type": check_optional_text(reference_type, "reference_type"),
        }

    @classmethod
    def from_dir(cls, path: str | os.PathLike[str], key: str | None = None, run: Any = None) -> list[File]:
        """Returns a new file for each file below a folder, sorted by path. `save_all` saves them in one transaction.

        Args:
            path: the folder.
            key: the prefix of the keys; None for none. The rest is the path below the folder.
            run: the run that creates the files; None for the current one.

        Raises:
            MissingFileError: the folder does not exist, or has no files.
            InvalidArgumentError: an argument is wrong.
        """
        return file_saving.files_of_folder(cls, path, check_optional_text(key, "key"), run)

    @staticmethod
    def save_all(files: Sequence[File]) -> None:
        """Saves files in one transaction.

        Args:
            files: the files. Those that are saved already stay as they are.

        Raises:
            MissingFileError, FileError: a file cannot be read. Nothing is saved.
        """
        if not isinstance(files, list | tuple) or not all(isinstance(each, File) for each in files):
            raise InvalidArgumentError(f"save_all takes a list of Files, got {files!r:.80}")
        file_saving.save_files(Lake.current(), files)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Stores the content and the record, or the changed fields of a saved one. It may be called again.

        Args:
            args: accepted for code of LaminDB.
            kwargs: accepted for code of LaminDB.

        Raises:
            MissingFileError, FileError: the file cannot be read. Nothing is saved.
            InvalidArgumentError: the version label is taken. Nothing is saved.
            StorageError: the disk or store cannot store the content. Nothing is saved.
        """
        if self._row is None:
            file_saving.save_files(self._record_lake, [self])
        else:
            self._save_changes()

    @property
    def key(self) -> str | None:
        """The key: a name, such as a path in a folder."""
        key: str | None = self._field("key")
        return key

    @property
    def suffix(self) -> str:
        """The suffix in lower case, such as ".csv"; empty if there is none."""
        return file_reads.suffix_of(self)

    @property
    def size(self) -> int | None:
        """The size in bytes; None before `save`, or if a server does not tell it."""
        size: int | None = self._field("size")
        return size

    def load(self, is_run_input: bool | None = None, *, max_bytes: int | None = None, **options: Any) -> Any:
        """Returns the content: a DataFrame, an AnnData, values of JSON, text or bytes, by the suffix.

        Args:
            is_run_input: False does not make the file an input of the current run.
            max_bytes: the budget in bytes; None for four times the setting ``sql.memory_bytes``.
            options: passed to the function of pandas or anndata that reads the file.

        Raises:
            UnsavedDatasetError: the file is not saved.
            BudgetExceededError: the file is larger than the budget.
            FormatError: the content does not have the format of the suffix.
        """
        row = self._require_row("load")
        run_inputs.add_file_input(self._record_lake, row["uid"], is_run_input)
        return file_reads.load(self._record_lake, [row], "outer", max_bytes, options)

    def stage(self, is_run_input: bool | None = None) -> str:
        """Returns the path of a local copy, which is read-only.

        Args:
            is_run_input: False does not make the file an input of the current run.

        Raises:
            UnsavedDatasetError: the file is not saved.
            MissingFileError, IntegrityError: the content is lost or damaged.
        """
        row = self._require_row("stage")
        run_inputs.add_file_input(self._record_lake, row["uid"], is_run_input)
        return file_reads.stage(self._record_lake, row)

    def backed(self, is_run_input: bool | None = None) -> Any:
        """Returns lazy access to an .h5ad file: a context manager with ``obs``, ``var``, ``shape`` and ``X[rows]``.

        Args:
            is_run_input: False does not make the file an input of the current run.

        Raises:
            UnsavedDatasetError: the file is not saved.
            TypeMismatchError: the file is not an .h5ad file.
        """
        row = self._require_row("backed")
        run_inputs.add_file_input(self._record_lake, row["uid"], is_run_input)
        return file_reads.backed(self._record_lake, row)

    def mapped(
        self,
        label_keys: str | Sequence[str] | None = None,
        join_vars: Literal["auto", "inner"] | None = "auto",
        encode_labels: bool | Sequence[str] = True,
        parallel: bool = False,
        stream: bool = False,
        is_run_input: bool | None = None,
        *,
        layer: str | None = None,
        dtype: Any = "float32",
        sparse: bool = False,
        dict_rows: bool = False,
    ) -> MappedCells:
        """Returns the rows of an .h5ad file by index, as a map-style dataset for PyTorch's ``DataLoader``.

        Args:
            label_keys: columns of ``obs`` that become labels.
            join_vars: accepted as in `Dataset.mapped`; one file needs no join.
            encode_labels: replace text, categories and booleans by codes, or the keys of the labels to replace.
            parallel: accepted for code of LaminDB; any number of processes may read the rows.
            stream: make no copy in the cache, but read the chunks that hold the rows.
            is_run_input: False does not make the file an input of the current run.
            layer: the name of a layer; None for ``X``.
            dtype: the type of the values.
            sparse: return sparse rows.
            dict_rows: return rows as dicts, with the values under "X".

        Raises:
            UnsavedDatasetError: the file is not saved.
            TypeMismatchError: the file is not an .h5ad file.
            ColumnNotFoundError, SchemaError, InvalidArgumentError: as for `lakefeed.map_anndata`.
        """
        row = self._require_row("mapped")
        run_inputs.add_file_input(self._record_lake, row["uid"], is_run_input)
        options = {"label_keys": label_keys, "join_vars": join_vars, "encode_labels": encode_labels}
        options |= {"parallel": parallel, "stream": stream, "layer": layer, "dtype": dtype}
        return file_reads.mapped(self._record_lake, [row], {**options, "sparse": sparse, "dict_rows": dict_rows})

    def delete(self, permanent: bool | None = None, storage: bool | None = None, *, force: bool = False) -> None:
        """Moves the record to the trash; `restore` brings it back.

        Args:
            permanent: delete the record for good. A garbage collection then removes the content, if nothing else
                needs it. In the trash, True is needed.
            storage: accepted for code of LaminDB. The content goes by garbage collections alone.
            force: also delete what others use.

        Raises:
            InUseError: datasets or runs use the file, and ``force`` is False. Nothing is changed.
            InvalidArgumentError: the record is in the trash, and ``permanent`` is None.
        """
        record_deletion.delete(self, permanent, storage, force)

    def restore(self) -> None:
        """Brings the record back from the trash."""
        record_deletion.restore(self)
