"""Settings turned into a PyIceberg catalog, or into an error that says which setting to change."""

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
from lakefeed.catalog.embedded import CATALOG_NAME, catalog_properties, sql_properties
from lakefeed.catalog.path_roots import ROOTS_PROPERTY, Roots
from lakefeed.config import Settings
from lakefeed.errors import CatalogUnavailableError, ConfigError, MissingDependencyError, quoted_list
from lakefeed.storage.urls import redact

EXTRAS = {"psycopg2": "postgres", "psycopg2cffi": "postgres", "boto3": "glue", "botocore": "glue"}
"""For a library that a catalog needs the extra that brings it: of lakefeed, or else of pyiceberg."""
LAKEFEED_EXTRAS = frozenset({"postgres"})


def open_catalog(settings: Settings) -> Catalog:
    """The catalog of the settings; its folder, its tables and the namespace exist afterwards.

    Raises:
        ConfigError: the settings cannot work.
        MissingDependencyError: the catalog needs a library that is not installed.
        CatalogUnavailableError: its database cannot be reached.
    """
    _check_location(settings.warehouse)
    with _configuration_errors(settings):
        if settings.catalog.type == "sql":
            catalog: Catalog = _sql_catalog(settings)
        else:
            catalog = load_catalog(
                CATALOG_NAME, type=_check_type(settings.catalog.type), **catalog_properties(settings)
            )
        ensure_namespace(catalog, settings.catalog.namespace)
    return catalog


def ensure_namespace(catalog: Catalog, namespace: str) -> None:
    """Creates the namespace where it is missing."""
    from sqlalchemy.exc import IntegrityError

    if catalog.namespace_exists((namespace,)):
        return
    try:
        catalog.create_namespace((namespace,))
    except (NamespaceAlreadyExistsError, IntegrityError):
        return  # another process was faster


def _sql_catalog(settings: Settings) -> Catalog:
    from lakefeed.catalog.sql_catalog import LakeSqlCatalog

    properties = sql_properties(settings)
    catalog = LakeSqlCatalog(CATALOG_NAME, patience=settings.catalog.patience, **properties)
    catalog.locate(settings.warehouse)
    if Roots.parse(catalog.properties.get(ROOTS_PROPERTY)).moved and properties[PY_IO_IMPL] != file_io.IMPLEMENTATION:
        raise ConfigError(
            f"the lake at {settings.warehouse!r} was moved or copied, and {PY_IO_IMPL}={properties[PY_IO_IMPL]!r} "
            "looks for its files where they were. Remove that from catalog.properties"
        )
    return catalog


def _check_type(given: str) -> str:
    kinds = [kind.value for kind in CatalogType]
    if given not in kinds:
        near = did_you_mean([given], kinds)
        raise ConfigError(f"catalog.type={given!r}: there is no such catalog.{near} It is one of {quoted_list(kinds)}")
    return given


@contextmanager
def _configuration_errors(settings: Settings) -> Iterator[None]:
    """Says of what goes wrong while a catalog is opened which setting is the cause."""
    from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

    uri = redact(settings.catalog_uri)
    try:
        yield
    except NoSuchModuleError as error:
        raise ConfigError(
            f"catalog.uri={uri!r}: there is no such kind of database. It begins with 'sqlite:///' or "
            "'postgresql+psycopg2://'"
        ) from error
    except ArgumentError as error:
        raise ConfigError(
            f"catalog.uri={uri!r} is not the URL of a database, such as 'sqlite:////data/lake/catalog.db' or "
            "'postgresql+psycopg2://user@host/database'"
        ) from error
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"the catalog {uri!r} needs {error.name}: {_install_advice(error.name)}"
        ) from error
    except DBAPIError as error:
        raise CatalogUnavailableError(f"the catalog {uri!r} cannot be opened: {error.orig}") from error
    except CatalogUnavailableError:
        raise
    except OSError as error:
        if not uri.startswith("sqlite:"):
            raise
        raise ConfigError(
            f"the catalog {uri!r} cannot be opened: {error.strerror or error} ({error.filename}). Set LAKEFEED_HOME "
            "or catalog.uri to where files can be written"
        ) from error


def _install_advice(library: str | None) -> str:
    if library == "asyncpg":
        return "name a driver that waits, such as 'postgresql+psycopg2://'"
    extra = EXTRAS.get((library or "").partition(".")[0])
    if extra is None:
        return f"pip install {library}"
    return f"pip install '{'lakefeed' if extra in LAKEFEED_EXTRAS else 'pyiceberg'}[{extra}]'"


def _check_location(warehouse: str) -> None:
    # Read as a URL, such a path ends at the sign: every file would land in one place.
    if local_path(warehouse) is not None and re.search("[#?]", warehouse):
        raise ConfigError(f"the warehouse {warehouse!r} has '#' or '?' in its path: choose another home or warehouse")
