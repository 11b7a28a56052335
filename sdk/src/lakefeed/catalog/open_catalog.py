"""Opens the PyIceberg catalog of the settings. Errors name the setting to change."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from pyiceberg.catalog import Catalog, CatalogType, load_catalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError
from pyiceberg.io import PY_IO_IMPL

from lakefeed._variables import did_you_mean
from lakefeed.catalog import file_io
from lakefeed.catalog.durability import local_path
from lakefeed.catalog.embedded_pointers import CATALOG_NAME
from lakefeed.catalog.embedded_tables import catalog_properties, sql_properties
from lakefeed.catalog.metadata_cache import MetadataCache
from lakefeed.catalog.path_roots import ROOTS_PROPERTY, Roots
from lakefeed.config import Settings
from lakefeed.errors import CatalogUnavailableError, ConfigError, MissingDependencyError, quoted_list
from lakefeed.storage.urls import redact

EXTRAS = {"psycopg2": "postgres", "psycopg2cffi": "postgres", "boto3": "glue", "botocore": "glue"}
"""The extra of each library that a catalog needs, of lakefeed or of pyiceberg."""
LAKEFEED_EXTRAS = frozenset({"postgres"})


def open_catalog(settings: Settings, metadata_cache: MetadataCache | None = None) -> Catalog:
    """Opens the catalog of the settings. Creates its folder, its tables and the namespace if they are missing.

    Args:
        settings: the settings.
        metadata_cache: where an SQL catalog keeps parsed metadata files; None for a cache of its own.

    Raises:
        ConfigError: the settings are invalid.
        MissingDependencyError: the catalog needs a library that is not installed.
        CatalogUnavailableError: its database cannot be reached.
    """
    _check_location(settings.warehouse)
    with _configuration_errors(settings):
        if settings.catalog.type == "sql":
            catalog: Catalog = _sql_catalog(settings, metadata_cache)
        else:
            catalog = load_catalog(
                CATALOG_NAME, type=_check_type(settings.catalog.type), **catalog_properties(settings)
            )
        ensure_namespace(catalog, settings.catalog.namespace)
    return catalog


def ensure_namespace(catalog: Catalog, namespace: str) -> None:
    """Creates the namespace, which may be inside another one, if it is missing."""
    from sqlalchemy.exc import IntegrityError

    parts = tuple(namespace.split("."))
    for length in range(1, len(parts) + 1):
        if catalog.namespace_exists(parts[:length]):
            continue
        try:
            catalog.create_namespace(parts[:length])
        except (NamespaceAlreadyExistsError, IntegrityError):
            continue  # another process was faster


def _sql_catalog(settings: Settings, metadata_cache: MetadataCache | None) -> Catalog:
    from lakefeed.catalog.sql_catalog import LakeSqlCatalog

    properties = sql_properties(settings)
    catalog = LakeSqlCatalog(
        CATALOG_NAME, patience=settings.catalog.patience, metadata_cache=metadata_cache, **properties
    )
    catalog.locate(settings.warehouse)
    if (
        Roots.parse(catalog.properties.get(ROOTS_PROPERTY)).has_moved
        and properties[PY_IO_IMPL] != file_io.IMPLEMENTATION
    ):
        raise ConfigError(
            f"the lake at {settings.warehouse!r} was moved or copied, but {PY_IO_IMPL}={properties[PY_IO_IMPL]!r} uses "
            "the old paths of its files; remove that from catalog.properties"
        )
    return catalog


def _check_type(name: str) -> str:
    types = [kind.value for kind in CatalogType]
    if name not in types:
        hint = did_you_mean([name], types)
        raise ConfigError(f"unknown catalog.type {name!r}.{hint} Choose from {quoted_list(types)}")
    return name


@contextmanager
def _configuration_errors(settings: Settings) -> Iterator[None]:
    """Raises errors of opening a catalog as errors that name the setting."""
    from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

    uri = redact(settings.catalog_uri)
    try:
        yield
    except NoSuchModuleError as error:
        raise ConfigError(
            f"unknown kind of database in catalog.uri={uri!r}; begin it with 'sqlite:///' or 'postgresql+psycopg2://'"
        ) from error
    except ArgumentError as error:
        raise ConfigError(
            f"catalog.uri={uri!r} is not a database URL, such as 'sqlite:////data/lake/catalog.db' or "
            "'postgresql+psycopg2://user@host/database'"
        ) from error
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"the catalog {uri!r} needs {error.name}: {_install_advice(error.name)}"
        ) from error
    except DBAPIError as error:
        raise CatalogUnavailableError(f"cannot open the catalog {uri!r}: {error.orig}") from error
    except CatalogUnavailableError:
        raise
    except OSError as error:
        if not uri.startswith("sqlite:"):
            raise
        raise ConfigError(
            f"cannot open the catalog {uri!r}: {error.strerror or error} ({error.filename}). Set LAKEFEED_HOME or "
            "catalog.uri to a writable path"
        ) from error


def _install_advice(library: str | None) -> str:
    if library == "asyncpg":
        return "use a synchronous driver, such as 'postgresql+psycopg2://'"
    extra = EXTRAS.get((library or "").partition(".")[0])
    if extra is None:
        return f"pip install {library}"
    return f"pip install '{'lakefeed' if extra in LAKEFEED_EXTRAS else 'pyiceberg'}[{extra}]'"


def _check_location(warehouse: str) -> None:
    # Parsed as a URL, such a path ends at the character, so every file would have the same path.
    if local_path(warehouse) is not None and re.search("[#?]", warehouse):
        raise ConfigError(
            f"the path of the warehouse {warehouse!r} contains '#' or '?': choose another home or warehouse"
        )
