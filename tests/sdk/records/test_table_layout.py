"""The registry's database: where it is, and the layout of its tables."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import inspect, select, text

from lakefeed.catalog.registry_database import RegistryDatabase
from lakefeed.catalog.version_uids import random_uid, table_stem, text_uid, version_uid
from lakefeed.config import Settings
from lakefeed.errors import CatalogUnavailableError, ConfigError, UnsupportedError
from lakefeed.records.record_tables import META, METADATA, RECORD, SYNCED
from lakefeed.records.table_layout import MIGRATIONS, ensure_layout

OLD = {"uid": "u", "stem": "s", "revision": 1, "kind": "dataset", "created": 0, "updated": 0}


def test_the_database_is_that_of_an_sql_catalog_else_its_own(tmp_path: Path) -> None:
    own = Settings(home=tmp_path)
    assert own.registry_uri == own.catalog_uri
    assert RegistryDatabase(own).is_catalog
    rest = Settings(home=tmp_path, catalog={"type": "rest", "uri": "http://localhost:1"})
    assert RegistryDatabase(rest).path == tmp_path / "registry.db"
    assert not RegistryDatabase(rest).is_catalog
    named = Settings(home=tmp_path, registry={"uri": f"sqlite:///{tmp_path}/deep/other.db"})
    ensure_layout(RegistryDatabase(named))
    assert (tmp_path / "deep" / "other.db").exists()
    wrong = RegistryDatabase(Settings(home=tmp_path, registry={"uri": "nosuch://x"}))
    with pytest.raises(ConfigError, match=r"registry\.uri"):
        ensure_layout(wrong)


def test_tables_are_made_once_again_when_dropped_and_migrated_by_number(tmp_path: Path) -> None:
    database = RegistryDatabase(Settings(home=tmp_path))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: ensure_layout(database), range(4)))
    with database.write() as connection:
        connection.execute(RECORD.insert().values(**OLD))
        connection.execute(SYNCED.insert().values(namespace="a", name="b", location="c"))
    steps = []

    def third(connection: object) -> None:
        steps.append(3)

    ensure_layout(database, {**MIGRATIONS, 3: third})
    ensure_layout(database, {**MIGRATIONS, 3: third})
    assert steps == [3]
    with pytest.raises(UnsupportedError, match="layout 3"):
        ensure_layout(database)
    with database.write() as connection:
        assert connection.scalar(select(RECORD.c.uid)) == "u"
        connection.execute(META.delete())
        connection.execute(text(f"DROP TABLE {RECORD.name}"))
    ensure_layout(database)
    with database.read() as connection:
        assert METADATA.tables.keys() <= set(inspect(connection).get_table_names())
        assert connection.execute(select(SYNCED.c.name, SYNCED.c.location)).all() == [("b", None)], "to be read again"


def test_a_failed_transaction_changes_nothing_and_a_broken_database_is_named(tmp_path: Path) -> None:
    database = RegistryDatabase(Settings(home=tmp_path))
    ensure_layout(database)

    def insert_twice() -> None:
        with database.write() as connection:
            connection.execute(RECORD.insert().values(**OLD))
            connection.execute(RECORD.insert().values(**OLD))

    with pytest.raises(CatalogUnavailableError, match="registry"):
        insert_twice()
    with database.read() as connection:
        assert connection.scalar(select(RECORD.c.uid)) is None
    database.close()
    (tmp_path / "catalog.db").write_bytes(b"no database" * 100)
    with pytest.raises(CatalogUnavailableError, match="registry"):
        ensure_layout(database)


def test_uids_are_functions_of_the_table_and_the_version() -> None:
    table = "3f2b1c9a-0000-4000-8000-1234567890ab"
    assert version_uid(table, 1) == table_stem(table) + "0001"
    assert version_uid(table, 62**4) == table_stem(table) + "10000"
    assert len({version_uid(table, n) for n in range(1000)}) == 1000
    assert text_uid("dagster:1") == text_uid("dagster:1") != text_uid("dagster:2")
    assert len(random_uid()) == 20
