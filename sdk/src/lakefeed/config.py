"""Settings: explicit argument > ``LAKEFEED__…`` environment > ``lakefeed.toml`` > default.

``lakefeed.toml`` is searched in ``$LAKEFEED_CONFIG``, the working directory and ``$LAKEFEED_HOME``, in this order.
``$LAKEFEED_HOME`` (default ``~/.lakefeed``) holds the embedded catalog, the warehouse and the blobs.
``$LAKEFEED_CACHE_DIR`` (default ``$LAKEFEED_HOME/cache``) holds files that may be deleted at any time.
``$LAKEFEED_CACHE_BYTES`` (default 100 GiB) limits the copies of files in it.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from lakefeed import _paths
from lakefeed._units import GIB, MIB
from lakefeed._variables import SETTINGS_PREFIX, check_variables, did_you_mean, is_near, setting_names
from lakefeed.errors import ConfigError

CONFIG_FILE = "lakefeed.toml"
CACHE_BYTES = 100 * GIB
OTHER_VARIABLES = {
    "home": "LAKEFEED_HOME",
    "cache_dir": "LAKEFEED_CACHE_DIR",
    "cache_bytes": "LAKEFEED_CACHE_BYTES",
}
"""Variables that apply where a setting has no value."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CatalogSettings(_Section):
    """The Iceberg catalog. ``properties`` are passed to PyIceberg unchanged.

    ``patience``: the seconds for which a query to a database that does not answer is retried.
    """

    type: str = "sql"
    uri: str | None = Field(default=None, repr=False)
    warehouse: str | None = None
    namespace: str = "default"
    patience: float = Field(default=15.0, ge=0)
    properties: dict[str, str] = Field(default_factory=dict, repr=False)


class BlobSettings(_Section):
    """The content-addressed store. ``options`` are passed to fsspec unchanged.

    Contents of less than ``pack_below_bytes`` are stored together, in packs of about ``pack_bytes``. Those of
    ``chunk_from_bytes`` or more are cut into chunks, which versions of a file share; 0 stores all contents whole.
    """

    url: str | None = None
    pack_below_bytes: int = Field(default=MIB, ge=0)
    pack_bytes: int = Field(default=128 * MIB, ge=MIB)
    chunk_from_bytes: int = Field(default=16 * MIB, ge=0)
    options: dict[str, Any] = Field(default_factory=dict, repr=False)


class CommitSettings(_Section):
    """The retries of a commit after a conflict with another writer, and the waits between them in seconds."""

    retries: int = Field(default=100, ge=0)
    min_wait: float = Field(default=0.01, ge=0)
    max_wait: float = Field(default=0.5, ge=0)


class WriteSettings(_Section):
    """The sizes of data files: rows of a row group, and bytes (decoded, estimated) of a row group and of a file.

    ``encodings``: "fast" decodes fastest. "basic" is for readers that know only plain values and dictionaries, such as
    the vectorized reader of Iceberg for Spark before 2026.

    ``compaction``: "auto" merges small files of keyed tables in the writes that find them; "off" leaves them to
    `Table.compact`.
    """

    row_group_rows: int = Field(default=131_072, ge=1)
    row_group_bytes: int = Field(default=8 * MIB, ge=1)
    file_bytes: int = Field(default=256 * MIB, ge=1)
    compression: str = "zstd"
    encodings: Literal["fast", "basic"] = "fast"
    compaction: Literal["auto", "off"] = "auto"


class ReadSettings(_Section):
    """The threads that decode fragments ahead, and the bytes that these fragments may hold."""

    threads: int = Field(default_factory=lambda: min(os.cpu_count() or 1, 8), ge=1)
    prefetch_bytes: int = Field(default=256 * MIB, ge=1)


class FileSettings(_Section):
    """Files that are read by URL: retries, waits in seconds, and options of fsspec.

    ``options`` are grouped by protocol: ``{"s3": {"endpoint_url": "https://s3.example.com"}}``. A local copy of a URL
    that rows refer to is used for ``fresh`` seconds without asking the server for changes. No request goes to hosts
    that match one of ``deny_hosts`` (``"*.internal"``). ``local_folders`` are folders of this machine whose files may
    be named by rows that come from files of other machines.
    """

    retries: int = Field(default=5, ge=0)
    min_wait: float = Field(default=0.2, ge=0)
    max_wait: float = Field(default=10.0, ge=0)
    timeout: float = Field(default=60.0, gt=0)
    fresh: float = Field(default=300.0, ge=0)
    deny_hosts: tuple[str, ...] = ()
    local_folders: tuple[str, ...] = ()
    options: dict[str, dict[str, Any]] = Field(default_factory=dict, repr=False)


class SqlSettings(_Section):
    """The bytes of memory that queries and joins use before they spill to local disk."""

    memory_bytes: int = Field(default=1024 * MIB, ge=32 * MIB)


class RegistrySettings(_Section):
    """The database of the registry, as an SQLAlchemy URL.

    None is the database of the catalog if that is an SQL catalog, else a SQLite file in ``home``.
    """

    uri: str | None = Field(default=None, repr=False)


class OpenLineageSettings(_Section):
    """The target for events of OpenLineage, which are sent when a run begins and ends. Without one, none are sent.

    ``url`` is an HTTP endpoint; without a path it gets ``/api/v1/lineage``. ``file`` gets one JSON line for each event.
    ``namespace`` is that of the datasets; None is the location of the warehouse. ``timeout`` is in seconds.
    """

    url: Annotated[str, AfterValidator(lambda value: _check_http(value))] | None = Field(default=None, repr=False)
    file: str | None = None
    namespace: str | None = None
    api_key: str | None = Field(default=None, repr=False)
    timeout: float = Field(default=5.0, gt=0)

    @property
    def is_on(self) -> bool:
        """True if events are to be sent."""
        return self.url is not None or self.file is not None


def _check_http(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    return value


class Settings(BaseModel):
    """All settings, validated. Locations that are not set are derived from ``home``.

    Example:
        >>> Settings(home="/data/lake").catalog_uri
        'sqlite:////data/lake/catalog.db'
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    home: Annotated[Path, AfterValidator(Path.expanduser)] = Field(default_factory=lambda: _home())
    cache_dir: Path | None = None
    cache_bytes: int | None = Field(default=None, ge=0)
    catalog: CatalogSettings = CatalogSettings()
    blobs: BlobSettings = BlobSettings()
    commit: CommitSettings = CommitSettings()
    write: WriteSettings = WriteSettings()
    read: ReadSettings = ReadSettings()
    files: FileSettings = FileSettings()
    sql: SqlSettings = SqlSettings()
    registry: RegistrySettings = RegistrySettings()
    openlineage: OpenLineageSettings = OpenLineageSettings()

    def __init__(self, **values: Any) -> None:
        written = _merged(_file_values(_config_file()), _environment_values(type(self)))
        super().__init__(**_merged(written, values))
        _check_folders(self)

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Returns the current settings, with ``overrides`` on top.

        Every dataset loads them, so they are read again only if the environment or the file has changed.

        Args:
            overrides: nested mappings, or values by dotted keys.

        Raises:
            ConfigError: a key is unknown, or a value does not fit.

        Example:
            >>> Settings.load(**{"commit.retries": 5}).commit.retries
            5
        """
        global _last
        inputs = (cls, *_inputs())
        if not overrides and _last is not None and _last[0] == inputs:
            return cast(Self, _last[1])
        settings = cls._validate(overrides)
        if not overrides:
            _last = inputs, settings
        return settings

    @classmethod
    def _validate(cls, overrides: Mapping[str, Any]) -> Self:
        check_variables(cls, os.environ)
        given, written = _nest(overrides), _file_values(_config_file())
        try:
            return cls(**given)
        except ValidationError as error:
            raise ConfigError(f"invalid settings: {_reasons(cls, error, given, written)}") from None

    @property
    def catalog_uri(self) -> str:
        """The URI of the catalog's database or server."""
        return self.catalog.uri or f"sqlite:///{self.home.absolute() / 'catalog.db'}"

    @property
    def registry_uri(self) -> str:
        """The URL of the registry's database."""
        if self.registry.uri is not None or self.catalog.type == "sql":
            return self.registry.uri or self.catalog_uri
        return f"sqlite:///{self.home.absolute() / 'registry.db'}"

    @property
    def warehouse(self) -> str:
        """The location of the tables' files."""
        given = os.path.expanduser(self.catalog.warehouse or "")  # noqa: PTH111 - a Path would break a URL
        return given or f"file://{self.home.absolute() / 'warehouse'}"

    @property
    def blob_url(self) -> str:
        """The location of the blob store."""
        given = os.path.expanduser(self.blobs.url or "")  # noqa: PTH111 - a Path would break a URL
        return given or f"file://{self.home.absolute() / 'blobs'}"

    @property
    def cache(self) -> Path:
        """The folder for files that may be deleted at any time."""
        folder = self.cache_dir or os.environ.get("LAKEFEED_CACHE_DIR")
        return Path(folder).expanduser().absolute() if folder else self.home.absolute() / "cache"

    @property
    def cache_limit(self) -> int:
        """The bytes that copies of files may take in the cache."""
        given = self.cache_bytes if self.cache_bytes is not None else _bytes_from_environment("LAKEFEED_CACHE_BYTES")
        return CACHE_BYTES if given is None else given


def override_settings(settings: Settings, overrides: Mapping[str, Any]) -> Settings:
    """Returns settings with ``overrides`` on top, which are nested mappings or values by dotted keys.

    Raises:
        ConfigError: a key is unknown, or a value does not fit.
    """
    given = _nest(overrides)
    try:
        return type(settings)(**_merged(settings.model_dump(), given))
    except ValidationError as error:
        raise ConfigError(f"invalid settings: {_reasons(type(settings), error, given, {})}") from None


def _check_folders(settings: Settings) -> None:
    """Checks that the local folders can exist.

    Raises:
        ConfigError: the home is a file; or a part of a path is a file, or too long, or its links lead in a circle.
    """
    if _paths.is_file(settings.home):
        raise ConfigError(f"home={str(settings.home)!r} is a file. Set $LAKEFEED_HOME to a folder")
    folders = {
        "home": str(settings.home),
        "cache_dir": str(settings.cache),
        "catalog.warehouse": settings.warehouse,
        "blobs.url": settings.blob_url,
    }
    for name, folder in folders.items():
        path = folder.removeprefix("file://")
        reason = "" if "://" in path else _paths.explain_missing(path)
        if reason:
            variable = OTHER_VARIABLES.get(name, f"{SETTINGS_PREFIX}{name.replace('.', '__').upper()}")
            raise ConfigError(f"{name}={path!r} cannot be a folder{reason}. Set ${variable} to another one")


def _merged(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for name, value in given.items():
        inner = merged.get(name)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        merged[name] = _merged(inner, value) if both else value  # type: ignore[arg-type]  # both are mappings
    return merged


def setting_origins() -> dict[str, list[str]]:
    """Returns the origins that have a value for each setting, by its dotted name. The first of them counts.

    Raises:
        ConfigError: the file cannot be read.
    """
    file = _config_file()
    written = _file_values(file)
    sections = {name for name, field in Settings.model_fields.items() if isinstance(field.default, BaseModel)}
    origins = {}
    for name in setting_names(Settings):
        if name not in sections:
            path = name.split(".")
            other = OTHER_VARIABLES.get(name, "")
            origins[name] = [
                *_variables_of(path),
                *([repr(str(file))] if _contains(written, path) else []),
                *([f"${other}"] if os.environ.get(other) else []),
                "default",
            ]
    return origins


_last: tuple[tuple[object, ...], Settings] | None = None
"""The settings that were loaded last without overrides, with everything that determined them."""


def _inputs() -> tuple[object, ...]:
    """Returns everything that determines the settings, except overrides."""
    names = [name for name in os.environ if name == "HOME" or is_near(name)]
    file = _config_file()
    written = None if file is None else file.read_bytes()
    return Path.cwd(), file, written, tuple((name, os.environ.get(name)) for name in names)


def _bytes_from_environment(name: str) -> int | None:
    """Returns a number of bytes from an environment variable; None if it is not set."""
    given = os.environ.get(name, "").strip()
    if given and not given.isdecimal():
        raise ConfigError(f"{name} must be a number of bytes such as {100 * GIB}, got {given!r}")
    return int(given) if given else None


def _home() -> Path:
    return Path(os.environ.get("LAKEFEED_HOME") or "~/.lakefeed").expanduser().absolute()


def _config_file() -> Path | None:
    named = os.environ.get("LAKEFEED_CONFIG")
    if named:
        if not _paths.is_file(named):
            raise ConfigError(f"LAKEFEED_CONFIG names {named!r}, which is not a file")
        return Path(named)
    paths = (Path.cwd() / CONFIG_FILE, _home() / CONFIG_FILE)
    return next((path for path in paths if _paths.is_file(path)), None)


def _file_values(file: Path | None) -> dict[str, Any]:
    """Returns the settings in the file.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        return {} if file is None else tomllib.loads(file.read_bytes().decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{str(file)!r} cannot be read as TOML: {error}") from None


def _environment_values(settings: type[BaseModel]) -> dict[str, Any]:
    """Returns the settings in environment variables.

    Raises:
        ConfigError: a variable is not the JSON that its setting needs.
    """
    if not any(name.upper().startswith(SETTINGS_PREFIX) for name in os.environ):
        return {}
    from pydantic_settings import EnvSettingsSource, SettingsError  # takes a tenth of a second to import

    try:
        source = EnvSettingsSource(
            cast(Any, settings), env_prefix=SETTINGS_PREFIX, env_nested_delimiter="__", case_sensitive=False
        )
        return source()
    except SettingsError as error:
        raise ConfigError(f"settings cannot be read: {error}: {error.__cause__}") from None


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for dotted, value in flat.items():
        *parents, leaf = dotted.split(".")
        inner = result
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{dotted!r} is inside {parent!r}, for which the value {inner!r} was given too")
        inner[leaf] = dict(value) if isinstance(value, Mapping) else value
    return result


def _reasons(
    settings: type[BaseModel], error: ValidationError, given: Mapping[str, Any], written: Mapping[str, Any]
) -> str:
    """Returns the reason for each setting that does not fit, with its origin."""
    reasons = []
    for item in error.errors():
        path = [str(part) for part in item["loc"]]
        key = ".".join(path)
        if item["type"] == "extra_forbidden":
            text = f"unknown setting {key!r}.{did_you_mean([key], setting_names(settings))}"
        else:
            text = f"{key}: {item['msg']}"
        reasons.append(f"{_origin(path, given, written)}: {text}")
    return "; ".join(reasons)


def _origin(path: list[str], given: Mapping[str, Any], written: Mapping[str, Any]) -> str:
    """Returns the origin of a setting, in order of precedence."""
    if _contains(given, path):
        return "argument"
    for variable in _variables_of(path):
        return variable
    return repr(str(_config_file())) if _contains(written, path) else "default"


def _variables_of(path: list[str]) -> Iterator[str]:
    """Yields the environment variables that set a setting, in order of precedence."""
    for length in range(len(path), 0, -1):  # a variable may hold a whole section as JSON
        variable = SETTINGS_PREFIX + "__".join(path[:length]).upper()
        given = [value for name, value in os.environ.items() if name.upper() == variable]
        entries = length == len(path) and any(name.upper().startswith(f"{variable}__") for name in os.environ)
        if entries or any(_contains(_from_json(value), path[length:]) for value in given):
            yield f"${variable}"


def _from_json(text: str) -> Any:
    """Returns the value of a variable; the text itself if it is not JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _contains(values: Any, path: list[str]) -> bool:
    """Returns whether the nested mapping has a value at ``path``, or one that ends the path early."""
    for part in path:
        if not isinstance(values, Mapping):
            return True
        if part not in values:
            return False
        values = values[part]
    return True
