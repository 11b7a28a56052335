"""`connect`, and the clients of a lake."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lakefeed._validate import check_flag, check_text
from lakefeed.catalog.lake import Lake
from lakefeed.config import Settings, override_settings
from lakefeed.dataset.core import build
from lakefeed.dataset.dataset import Dataset
from lakefeed.errors import ConfigError, InvalidArgumentError, InvalidNameError
from lakefeed.keyed import index_search, keyed_scan
from lakefeed.keyed.key_ranges import Shard
from lakefeed.keyed.projects import Project

if TYPE_CHECKING:
    import datetime as dt

    import pyarrow as pa
    from pyiceberg.catalog import Catalog

    from lakefeed.keyed.keyed_scan import Scan


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
            IndexNotFoundError: the index does not exist.
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
