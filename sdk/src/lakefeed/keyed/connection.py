"""`connect`, the clients of a lake, and its projects."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from lakefeed._validate import check_flag, check_text
from lakefeed.catalog.lake import Lake
from lakefeed.config import Settings, override_settings
from lakefeed.dataset.core import build
from lakefeed.dataset.dataset import Dataset
from lakefeed.errors import ConfigError, InvalidArgumentError, InvalidNameError
from lakefeed.keyed import (
    index_creation,
    index_search,
    key_space_index,
    keyed_creation,
    keyed_scan,
    open_index,
    table_names,
)
from lakefeed.keyed.key_ranges import Shard
from lakefeed.keyed.keyed_table import Table, open_table

if TYPE_CHECKING:
    import datetime as dt

    import pyarrow as pa
    from pyiceberg.catalog import Catalog

    from lakefeed.keyed.key_space_index import KeySpaceIndex
    from lakefeed.keyed.keyed_scan import Scan
    from lakefeed.keyed.search_index import SearchIndex
    from lakefeed.keyed.text_index import TextIndex
    from lakefeed.keyed.vector_index import VectorIndex


def connect(settings: Settings | None = None, *, overrides: Mapping[str, Any] | None = None) -> Client:
    """Returns a client of a lake. It connects when it is used; clients of equal settings share connections.

    Args:
        settings: the settings; None for the current ones: environment, then ``lakefeed.toml``, then defaults.
        overrides: settings by dotted keys, such as ``{"commit.retries": 5}``. They take precedence over the others.

    Raises:
        ConfigError: a setting is unknown or does not fit.

    Example:
        >>> connect(overrides={"commit.retries": "5"}).config.commit.retries
        5
    """
    if settings is not None and not isinstance(settings, Settings):
        raise InvalidArgumentError(f"settings must be a lakefeed.Settings or None, got {settings!r:.80}")
    if overrides is not None and not _is_settings(overrides):
        raise InvalidArgumentError(f"overrides must be a mapping of settings to values, got {overrides!r:.80}")
    given = dict(overrides or {})
    if settings is None:
        return Client(Settings.load(**given))
    if not given:
        return Client(settings)
    try:
        return Client(override_settings(settings, given))
    except ConfigError as error:
        raise ConfigError(f"overrides: {error}") from None


def _is_settings(overrides: Any) -> bool:
    return isinstance(overrides, Mapping) and all(isinstance(key, str) and key for key in overrides)


class Project:
    """A namespace of tables. Names are ``table``, or ``dataset.table`` in a namespace inside it.

    `Client.project` makes one. Names in it are relative to it.
    """

    def __init__(self, lake: Lake, name: str = "") -> None:
        self._lake, self._prefix = lake, f"{name}." if name else ""
        if name:
            lake.identifier(f"{name}.table")

    @property
    def id(self) -> str:
        """The name."""
        return self._prefix.removesuffix(".")

    @property
    def name(self) -> str:
        """The name."""
        return self.id

    def create_table(
        self,
        identifier: str,
        *,
        key_schema: Any,
        root_uri: str | None = None,
        exist_ok: bool = False,
        description: str | None = None,
        column_files: bool = True,
    ) -> Table:
        """Creates a table; see `Table.create`.

        Args:
            identifier: the name.
            key_schema: the key columns: a ``pyarrow.Schema``, fields, pairs of a name and a type, or a mapping.
            root_uri: the folder or URL below which the files of the table lie; None for the warehouse.
            exist_ok: return the table if it exists with this key.
            description: a description of the table.
            column_files: write derived columns into column files. False writes the rows again instead, so that every
                engine sees the columns at once.

        Raises:
            DatasetExistsError: the table exists, and ``exist_ok`` is False.
            SchemaError: the table exists with another key, or the key has no columns.
        """
        name = self._full(identifier)
        return keyed_creation.create_table(self._lake, name, key_schema, root_uri, exist_ok, description, column_files)

    def table(self, identifier: str) -> Table:
        """Returns a table.

        Args:
            identifier: the name.

        Raises:
            DatasetNotFoundError: there is no such table.
            InvalidArgumentError: it is a dataset without a key.
        """
        table = open_table(self._lake, self._full(identifier))
        _ = table.key_schema
        return table

    def list_tables(self) -> list[Table]:
        """Returns the tables, ordered by name. Datasets without a key are left out."""
        return [open_table(self._lake, name) for name in table_names.keyed_names(self._lake, self._prefix)]

    def drop_table(self, identifier: str) -> None:
        """Removes a table with its files.

        Args:
            identifier: the name.

        Raises:
            DatasetNotFoundError: there is no such table.
        """
        self._lake.drop(self.table(identifier).identifier)

    def move_table(self, identifier: str, new_dataset: str) -> Table:
        """Moves a table to another dataset of the project, and returns it under its new name.

        Args:
            identifier: the name.
            new_dataset: the dataset. It is created if it is missing.

        Raises:
            DatasetNotFoundError: there is no such table.
            DatasetExistsError: the dataset has a table of that name.
        """
        old = self.table(identifier)
        new = self._full(f"{check_text(new_dataset, 'new_dataset')}.{old.name}")
        return open_table(self._lake, table_names.rename(self._lake, old.identifier, new))

    def rename_table(self, identifier: str, new_table: str) -> Table:
        """Renames a table within its dataset, and returns it under its new name.

        Args:
            identifier: the name.
            new_table: the new name, without the dataset.

        Raises:
            DatasetNotFoundError: there is no such table.
            DatasetExistsError: there is a table of the new name.
        """
        old = self.table(identifier)
        if "." in check_text(new_table, "new_table"):
            raise InvalidNameError(f"new_table {new_table!r}: give the name without the dataset; move_table moves")
        above = old.identifier.rpartition(".")[0]
        new = f"{above}.{new_table}" if above else new_table
        return open_table(self._lake, table_names.rename(self._lake, old.identifier, new))

    def create_text_index(
        self, name: str, *projections: Any, where: Any = None, root_uri: str | None = None, exist_ok: bool = False
    ) -> TextIndex:
        """Creates and builds a text index of a table, for `Client.search`.

        Args:
            name: the name of the index.
            projections: columns of one table. Those of `lakefeed.expressions.text.field` can be searched for words; the
                others are filter fields.
            where: a condition of the rows, as text or a term.
            root_uri: the location of the files of the index.
            exist_ok: return the index if it exists with these fields.

        Raises:
            DatasetExistsError: the index exists, and ``exist_ok`` is False or its fields are others.
            InvalidArgumentError: no field is a text field, or the columns are not of one table with a key.
            TypeMismatchError, UnsupportedError: a field has a type that cannot be indexed.
        """
        return index_creation.create_text_index(
            self._lake, self._full(name, "name"), projections, where, root_uri, exist_ok
        )

    def create_vector_index(
        self,
        name: str,
        term: Any,
        *projections: Any,
        metric: Literal["cosine", "l2", "dot"] = "cosine",
        where: Any = None,
        root_uri: str | None = None,
        exist_ok: bool = False,
    ) -> VectorIndex:
        """Creates and builds an index of vectors of a table, for `Client.search`.

        Args:
            name: the name of the index.
            term: the column with the vectors: lists of numbers of one width, or tensors. Rows with null are left out.
            projections: further columns of the table: the filter fields.
            metric: ``cosine`` and ``dot`` score by the cosine and by the dot product, ``l2`` by the negative distance.
            where: a condition of the rows, as text or a term.
            root_uri: the location of the files of the index.
            exist_ok: return the index if it exists with these fields.

        Raises:
            DatasetExistsError: the index exists, and ``exist_ok`` is False or its fields are others.
            InvalidArgumentError: a vector has NaN, or the columns are not of one table with a key.
            TypeMismatchError: the column does not hold vectors, or their widths differ.
            UnsupportedError: a filter field has a type that cannot be indexed.
        """
        return index_creation.create_vector_index(
            self._lake, self._full(name, "name"), term, projections, metric, where, root_uri, exist_ok
        )

    def index(self, name: str) -> SearchIndex:
        """Returns an index.

        Args:
            name: the name.

        Raises:
            IndexNotFoundError: there is no such index.
        """
        return open_index.open_index(self._lake, self._full(name, "name"))

    def text_index(self, name: str) -> TextIndex:
        """Returns a text index.

        Args:
            name: the name.

        Raises:
            IndexNotFoundError: there is no such index.
            InvalidArgumentError: it is an index of another kind.
        """
        return open_index.open_text_index(self._lake, self._full(name, "name"))

    def vector_index(self, name: str) -> VectorIndex:
        """Returns an index of vectors.

        Args:
            name: the name.

        Raises:
            IndexNotFoundError: there is no such index.
            InvalidArgumentError: it is an index of another kind.
        """
        return open_index.open_vector_index(self._lake, self._full(name, "name"))

    def list_indexes(self) -> list[SearchIndex]:
        """Returns the indexes, ordered by name."""
        return open_index.list_indexes(self._lake, self._prefix)

    def drop_index(self, name: str) -> None:
        """Removes an index. Its table stays as it is.

        Args:
            name: the name.

        Raises:
            IndexNotFoundError: there is no such index.
        """
        open_index.drop_index(self._lake, self._full(name, "name"))

    def create_key_space_index(
        self,
        name: str,
        granularity: int,
        *projections: Any,
        where: Any = None,
        root_uri: str | None = None,
        exist_ok: bool = False,
    ) -> KeySpaceIndex:
        """Creates an index of the ranges of the keys of a scan, each of about so many rows. It reads the keys.

        Args:
            name: the name of the index.
            granularity: the number of rows of a range. After a refresh, a range has at most twice as many.
            projections: as in `Client.scan`.
            where: a condition of the rows, as text or a term.
            root_uri: must be None: the ranges are kept in the warehouse.
            exist_ok: return the index if it exists with this granularity and these columns.

        Raises:
            DatasetExistsError: the index exists, and ``exist_ok`` is False or its definition is another one.
            InvalidArgumentError: the granularity is not a whole number of at least 1.
            UnsupportedError: a column calls a function that has no name in a module.
        """
        ok, full = check_flag(exist_ok, "exist_ok"), self._full(name, "name")
        return key_space_index.create_index(self._lake, full, granularity, projections, where, root_uri, ok)

    def key_space_index(self, name: str) -> KeySpaceIndex:
        """Returns an index of ranges of keys.

        Args:
            name: its name.

        Raises:
            IndexNotFoundError: there is no such index.
            DamagedDatasetError: it cannot be read. The message says how to make it anew.
        """
        return key_space_index.open_index(self._lake, self._full(name, "name"))

    def list_key_space_indexes(self) -> list[KeySpaceIndex]:
        """Returns the indexes of ranges of keys, ordered by name. Damaged ones are left out."""
        indexes = key_space_index.list_indexes(self._lake, self._prefix)
        return sorted(indexes, key=lambda index: index.name)

    def drop_key_space_index(self, name: str) -> None:
        """Removes an index of ranges of keys. It may be damaged.

        Args:
            name: its name.

        Raises:
            IndexNotFoundError: there is no such index.
        """
        key_space_index.drop_index(self._lake, self._full(name, "name"))

    def _full(self, identifier: Any, argument: str = "identifier") -> str:
        return f"{self._prefix}{check_text(identifier, argument)}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r}>" if self.id else f"<{type(self).__name__}>"


class Client(Project):
    """A client of a lake: its tables, datasets and projects. Picklable and thread-safe.

    Example:
        >>> client = connect()
        >>> table = client.create_table("web.pages", key_schema={"url": pa.string()})
        >>> _ = table.write({"url": ["a", "b"], "size": [1, 2]})
        >>> client.scan(table, where=table["size"] > 1).to_table().to_pydict()
        {'url': ['b'], 'size': [2]}
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(Lake.of(settings))

    @property
    def config(self) -> Settings:
        """The settings."""
        return self._lake.settings

    def catalog(self) -> Catalog:
        """Returns the PyIceberg catalog of the lake."""
        return self._lake.catalog

    @property
    def iceberg(self) -> Iceberg:
        """The Iceberg catalog, as ``client.iceberg.catalog()``."""
        return Iceberg(self._lake)

    def list_projects(self) -> list[Project]:
        """Returns the projects: the namespaces of the lake, ordered by name."""
        return [Project(self._lake, name) for name in self._namespaces()]

    def _namespaces(self) -> Iterator[str]:
        own = self._lake.settings.catalog.namespace
        names = {".".join(each) for each in self._lake.catalog.list_namespaces() if len(each) == 1}
        return iter(sorted(names - {own}))

    def create_project(self, id_prefix: str | None = None, *, name: str | None = None) -> Project:
        """Creates a project, which is a namespace.

        Args:
            id_prefix: the beginning of the name; the rest is chosen.
            name: the name; takes precedence.
        """
        chosen = name
        if chosen is None:
            prefix = "project" if id_prefix is None else check_text(id_prefix, "id_prefix")
            chosen = f"{prefix}-{uuid.uuid4().hex[:6]}"
        project = Project(self._lake, check_text(chosen, "name"))
        self._lake.ensure_namespace(chosen)
        return project

    def project(self, name: str) -> Project:
        """Returns a project.

        Args:
            name: its name. A project without tables need not exist.
        """
        if not check_text(name, "name"):
            raise InvalidNameError("name='': a project has a name")
        return Project(self._lake, name)

    def dataset(
        self, name: str, *, version: int | str | None = None, as_of: dt.datetime | int | None = None
    ) -> Dataset:
        """Returns a dataset of the lake; see `Dataset`.

        Args:
            name: the name.
            version: the number or the tag of a version.
            as_of: read the version that was the newest at this time.
        """
        from lakefeed.catalog.version_arguments import check_version

        self._lake.identifier(name)
        return build(Dataset, self._lake, None, name, check_version(version, as_of))

    def scan(self, *projections: Any, where: Any = None, asof: Any = None) -> Scan:
        """Returns a scan of one or several tables of equal key.

        Args:
            projections: tables, columns of tables (``table[["a", "b"]]``, ``table.select(…)``), terms, and mappings of
                names to terms. They are merged; of one name the last counts.
            where: a condition, as text or a term.
            asof: a datetime with a time zone, microseconds since 1970, a version number, a tag, or None for the newest
                versions.

        Raises:
            SchemaError: the tables have different keys.
            ColumnNotFoundError, ExpressionError: a term does not fit the tables.
            DatasetNotFoundError, VersionNotFoundError: a table or version does not exist.
        """
        return keyed_scan.Scan.of(self._lake, projections, where, asof)

    def search(
        self,
        top_k: int,
        *rank_by: Any,
        filters: Any = None,
        freshness_window: dt.timedelta | None = None,
    ) -> pa.RecordBatchReader:
        """Returns the key columns of the best rows and their ``score``, best first. Equal scores are ordered by key.

        Args:
            top_k: the number of rows.
            rank_by: rankings by fields of indexes of one table, such as
                ``text.find(index["caption"], "a black cat")`` and ``vector.nearest(index["embedding"], [0.5, 0.1])``.
                The scores of several texts in one index are added up. Rankings of vectors or of several indexes are
                fused by the places of the rows in them (reciprocal rank).
            filters: a condition over filter fields, as text or a term, of parts that are joined with ``and``. Only rows
                for which it is true are ranked.
            freshness_window: search an index without the newest versions of its table if none of them is older than
                this. None refreshes the index before the search.

        Raises:
            InvalidArgumentError: an argument is malformed, or ``filters`` has an ``or``.
            ColumnNotFoundError, ExpressionError, UnsupportedError: a field or a condition does not fit the index.
            IndexNotFoundError: there is no such index.
            DamagedDatasetError: a file of the index is lost; `TextIndex.refresh` builds it anew.
        """
        return index_search.Search.of(self._lake, top_k, rank_by, filters, freshness_window).run()

    def resume_scan(self, state_json: str) -> Scan:
        """Returns the scan whose state this is: the same rows, though the tables have changed.

        Args:
            state_json: the result of `Scan.state_json`.

        Raises:
            StateMismatchError: this is not the state of a scan.
            VersionNotFoundError: a version has expired, or its table was dropped.
        """
        return keyed_scan.resume_scan(self._lake, state_json)

    def compute_shards(
        self, max_batch_size: int, *projections: Any, where: Any = None, asof: Any = None, stream: bool = False
    ) -> list[Shard]:
        """Returns parts of a scan with exactly so many rows, the last one with fewer. It reads the keys.

        Args:
            max_batch_size: the number of rows of a shard.
            projections: as in `scan`.
            where: as in `scan`.
            asof: as in `scan`.
            stream: keys are always streamed; only the ends of the shards are held.
        """
        check_flag(stream, "stream")
        return self.scan(*projections, where=where, asof=asof).compute_shards(max_batch_size)

    def __reduce__(self) -> tuple[type[Client], tuple[Settings]]:
        return Client, (self.config,)


class Iceberg:
    """The Iceberg catalog of a lake."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def catalog(self) -> Catalog:
        """Returns the PyIceberg catalog."""
        return self._lake.catalog
