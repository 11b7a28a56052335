"""`Dataset`: a version of a table, a folder or a list of files as a record, with the calls of LaminDB's ``Dataset``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from lakefeed._validate import check_flag
from lakefeed.catalog.lake import Lake
from lakefeed.errors import InvalidArgumentError, TypeMismatchError
from lakefeed.records.version_rows import DATASET_KIND, TREE_KIND
from lakefeed.registry import (
    chain_versions,
    data_kinds,
    dataset_access,
    dataset_saving,
    described_data,
    record_deletion,
)
from lakefeed.registry.described_record import DescribedRecord
from lakefeed.registry.record_base import check_optional_text
from lakefeed.registry.version_labels import check_label

if TYPE_CHECKING:
    from lakefeed.arrays.mapped_cells import MappedCells
    from lakefeed.dataset import Dataset as Rows
    from lakefeed.registry.file_records import File
    from lakefeed.trees.file_tree import FileTree


class Dataset(DescribedRecord):
    """A dataset: a version of a table, of a folder of files, or of a list of files, with facts about it.

    The constructor checks types only. `save` stores the data and the record, together or not at all.

    Args:
        data: a DataFrame, an Arrow table, a `lakefeed.Dataset`, an AnnData, the path or URL of a folder or file, or a
            list of `File` objects. Of a URL, nothing is copied.
        name: the name; None for the description.
        version: the label of the version, unique in its chain; None for the next number.
        description: a description.
        meta: for a folder: a table with the column ``path``, whose other columns become columns of the files.
        reference: a reference, such as a URL or an id in another system.
        reference_type: the type of the reference, such as "url".
        run: the run that creates the dataset; None for the current one.
        is_new_version_of: the dataset whose next version this is.
        labels: labels, or their names.
        allow_duplicate: save it even if a record has this content. By default `save` takes that record.

    Raises:
        InvalidArgumentError: the data are of another type, or an argument is wrong.
        TypeMismatchError: ``is_new_version_of`` is not a Dataset.

    Example:
        >>> from lakefeed.registry.dev import datasets
        >>> flowers = Dataset(datasets.df_iris_in_meter_batch1(), name="Iris flower dataset batch1")
        >>> flowers.save()
        >>> flowers.version, len(flowers.load())
        ('1', 75)
    """

    _kinds = (DATASET_KIND, TREE_KIND)

    def __init__(
        self,
        data: Any,
        name: str | None = None,
        version: str | None = None,
        description: str | None = None,
        meta: Any = None,
        reference: str | None = None,
        reference_type: str | None = None,
        run: Any = None,
        is_new_version_of: Dataset | None = None,
        *,
        labels: Sequence[Any] | None = None,
        allow_duplicate: bool = False,
    ) -> None:
        if not isinstance(is_new_version_of, Dataset | None):
            raise TypeMismatchError(f"is_new_version_of must be a Dataset, got {is_new_version_of!r:.80}")
        about = check_optional_text(description, "description")
        given = check_optional_text(name, "name") or about
        if not given and is_new_version_of is None:
            raise InvalidArgumentError("a Dataset needs a name, or a description to take as its name")
        self._record_lake, self._row = Lake.current(), None
        self._data = data_kinds.check_dataset_data(data)
        self._meta = data_kinds.check_meta(meta, self._data)
        self._run_id, self._former = chain_versions.run_id_of(run), is_new_version_of
        self._new_labels = chain_versions.typed_labels(labels)
        self._allow_duplicate = check_flag(allow_duplicate, "allow_duplicate")
        self._new_feature_sets: dict[str, list[str]] = {}
        self._unvalidated: tuple[Any, ...] = ()
        self._token = dataset_saving.new_token()
        self._values = {
            "name": given or (None if is_new_version_of is None else is_new_version_of.name),
            "description": about,
            "version": None if version is None else check_label(version),
            "reference": check_optional_text(reference, "reference"),
            "reference_type": check_optional_text(reference_type, "reference_type"),
        }

    @classmethod
    def from_df(
        cls,
        df: Any,
        field: Any = None,
        name: str | None = None,
        description: str | None = None,
        run: Any = None,
        reference: str | None = None,
        reference_type: str | None = None,
        version: str | None = None,
        is_new_version_of: Dataset | None = None,
        *,
        strict: bool = False,
        **options: Any,
    ) -> Dataset:
        """Returns a new dataset of a table, whose columns are validated and linked as its features.

        Args:
            df: a DataFrame or an Arrow table.
            field: the field whose names the columns must have; None for ``Feature.name``.
            name: as of `Dataset`.
            description: as of `Dataset`.
            run: as of `Dataset`.
            reference: as of `Dataset`.
            reference_type: as of `Dataset`.
            version: as of `Dataset`.
            is_new_version_of: as of `Dataset`.
            strict: raise one error with all problems. Otherwise they are logged, and `problems` has them.
            options: further arguments of `Dataset`.

        Raises:
            ValidationError: the table differs from the declared features, and ``strict`` is True.
            InvalidArgumentError, TypeMismatchError: as for `Dataset`.
        """
        facts = {"name": name, "description": description, "run": run, "reference": reference}
        facts |= {"reference_type": reference_type, "version": version, "is_new_version_of": is_new_version_of}
        return described_data.dataset_of_frame(cls, df, field, strict, {**facts, **options})

    @classmethod
    def from_anndata(
        cls,
        adata: Any,
        field: Any,
        name: str | None = None,
        description: str | None = None,
        run: Any = None,
        reference: str | None = None,
        reference_type: str | None = None,
        version: str | None = None,
        is_new_version_of: Dataset | None = None,
        *,
        strict: bool = False,
        **options: Any,
    ) -> Dataset:
        """Returns a new dataset of an AnnData, whose variables and columns of ``obs`` are validated and linked.

        Args:
            adata: the AnnData.
            field: the field whose names the variables must have, such as ``bionty.Gene.ensembl_gene_id``.
            name: as of `Dataset`.
            description: as of `Dataset`.
            run: as of `Dataset`.
            reference: as of `Dataset`.
            reference_type: as of `Dataset`.
            version: as of `Dataset`.
            is_new_version_of: as of `Dataset`.
            strict: raise one error with all problems. Otherwise they are logged, and `problems` has them.
            options: further arguments of `Dataset`.

        Raises:
            ValidationError: the AnnData differs from the declared features, and ``strict`` is True.
            InvalidArgumentError, TypeMismatchError: as for `Dataset`.
        """
        facts = {"name": name, "description": description, "run": run, "reference": reference}
        facts |= {"reference_type": reference_type, "version": version, "is_new_version_of": is_new_version_of}
        return described_data.dataset_of_anndata(cls, adata, field, strict, {**facts, **options})

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Stores the data and the record, or the changed fields of a saved one. It may be called again.

        Args:
            args: accepted for code of LaminDB.
            kwargs: accepted for code of LaminDB.

        Raises:
            MissingFileError, FileError: a file cannot be read. Nothing is saved.
            SchemaError: the columns do not fit those of the former version. Nothing is saved.
            InvalidArgumentError: the version label is taken. Nothing is saved.
            CommitConflictError: other writers kept committing first. Nothing is saved.
        """
        if self._row is None:
            dataset_saving.save_dataset(self)
        else:
            self._save_changes()

    # ------------------------------------------------------------------------------------- fields

    @property
    def name(self) -> str | None:
        """The name."""
        name: str | None = self._field("name")
        return name

    @property
    def problems(self) -> tuple[Any, ...]:
        """The differences from the declared features that `from_df` or `from_anndata` found in this process."""
        return tuple(self.__dict__.get("_unvalidated", ()))

    @property
    def dataset(self) -> Rows:
        """The version as a `lakefeed.Dataset`, for filters, joins and training."""
        return dataset_access.rows_of(self._record_lake, self._current_row("dataset"))

    @property
    def tree(self) -> FileTree | None:
        """The version as a file tree; None if the data are not a folder."""
        return dataset_access.tree_of(self._record_lake, self._current_row("tree"))

    @property
    def files(self) -> list[File]:
        """The files, in order; empty for a table or a folder."""
        return dataset_access.files_of(self)

    @property
    def file(self) -> File | None:
        """The only file; None if the data are not one file."""
        files = self.files
        return files[0] if len(files) == 1 else None

    # ------------------------------------------------------------------------------------- data

    def load(
        self,
        join: Literal["outer", "inner"] = "outer",
        is_run_input: bool | None = None,
        *,
        max_bytes: int | None = None,
        **options: Any,
    ) -> Any:
        """Returns the data in memory: of a table a DataFrame; of one file its content; several files joined in order.

        Args:
            join: the columns or variables of several files: all of them ("outer"), or those in each ("inner").
            is_run_input: False does not make the version an input of the current run.
            max_bytes: the budget in bytes; None for four times the setting ``sql.memory_bytes``.
            options: passed to the function of pandas or anndata that reads a file.

        Raises:
            UnsavedDatasetError: the dataset is not saved.
            BudgetExceededError: the data are larger than the budget.
            TypeMismatchError: the files have several suffixes, or are neither tables nor AnnData files.
        """
        return dataset_access.load(self, join, is_run_input, max_bytes, options)

    def backed(self, is_run_input: bool | None = None) -> Any:
        """Returns lazy access: of a table or folder a `lakefeed.Dataset`; of an .h5ad file a context manager.

        The latter has ``obs``, ``var``, ``shape`` and ``X[rows]``.

        Args:
            is_run_input: False does not make the version an input of the current run.

        Raises:
            UnsavedDatasetError: the dataset is not saved.
            TypeMismatchError: it consists of several files, or its file is not an .h5ad file.
        """
        return dataset_access.backed(self, is_run_input)

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
        """Returns the rows of the AnnData files by index, as a map-style dataset for PyTorch's ``DataLoader``.

        Args:
            label_keys: columns of ``obs`` that become labels.
            join_vars: how files are joined that have other variables; see `lakefeed.map_anndata`.
            encode_labels: replace text, categories and booleans by codes, or the keys of the labels to replace.
            parallel: accepted for code of LaminDB; any number of processes may read the rows.
            stream: make no copy in the cache, but read the chunks that hold the rows.
            is_run_input: False does not make the version an input of the current run.
            layer: the name of a layer; None for ``X``.
            dtype: the type of the values.
            sparse: return sparse rows.
            dict_rows: return rows as dicts, with the values under "X".

        Raises:
            UnsavedDatasetError: the dataset is not saved.
            TypeMismatchError: the data are not AnnData files.
            ColumnNotFoundError, SchemaError, InvalidArgumentError: as for `lakefeed.map_anndata`.
        """
        options = {"label_keys": label_keys, "join_vars": join_vars, "encode_labels": encode_labels}
        options |= {"parallel": parallel, "stream": stream, "layer": layer, "dtype": dtype}
        return dataset_access.mapped(self, is_run_input, {**options, "sparse": sparse, "dict_rows": dict_rows})

    def rows(
        self,
        is_run_input: bool | None = None,
        *,
        layer: str | None = None,
        x: Literal["sparse", "dense"] | None = "sparse",
        obs: Sequence[str] | None = None,
        join_vars: Literal["auto", "inner"] | None = "auto",
    ) -> Rows:
        """Returns the rows as a `lakefeed.Dataset`, for filters, splits and loaders: of AnnData files their cells.

        Files are read from local copies in the cache of this machine.

        Args:
            is_run_input: False does not make the version an input of the current run.
            layer: of AnnData files, the name of a layer; None for ``X``.
            x: of AnnData files, the form of the matrix; see `lakefeed.Dataset.from_anndata`.
            obs: of AnnData files, the columns of ``obs`` to read; None for all.
            join_vars: how AnnData files are joined that have other variables.

        Raises:
            UnsavedDatasetError: the dataset is not saved.
            TypeMismatchError: the files have several suffixes, or a file occurs twice.
            FormatError: the files have no rows.
        """
        options = {"layer": layer, "x": x, "obs": obs, "join_vars": join_vars}
        return dataset_access.rows(self, is_run_input, options)

    def stage(self, is_run_input: bool | None = None) -> str | list[str]:
        """Returns the path of a local copy: of a folder or of the only file; of several files the list of paths.

        Args:
            is_run_input: False does not make the version an input of the current run.

        Raises:
            UnsavedDatasetError: the dataset is not saved.
            TypeMismatchError: the data are a table.
        """
        return dataset_access.stage(self, is_run_input)

    # ------------------------------------------------------------------------------------- trash

    def delete(self, permanent: bool | None = None, storage: bool | None = None, *, force: bool = False) -> None:
        """Moves the record to the trash; `restore` brings it back. It can still be read by its uid.

        Args:
            permanent: delete the version for good. A garbage collection then removes what nothing else needs. In the
                trash, True is needed.
            storage: accepted for code of LaminDB. Data go by garbage collections alone.
            force: also delete what others use.

        Raises:
            InUseError: runs use the version, and ``force`` is False. Nothing is changed.
            InvalidArgumentError: the record is in the trash, and ``permanent`` is None.
        """
        record_deletion.delete(self, permanent, storage, force)

    def restore(self) -> None:
        """Brings the record back from the trash."""
        record_deletion.restore(self)
