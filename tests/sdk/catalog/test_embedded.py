"""Tables read from the SQLite file are those that the catalog loads."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lakefeed import Dataset
from lakefeed.catalog.embedded_pointers import CATALOG_NAME
from lakefeed.catalog.embedded_tables import EmbeddedTable, EmbeddedTables
from lakefeed.catalog.lake import Lake
from lakefeed.config import Settings
from lakefeed.errors import CatalogUnavailableError, DamagedDatasetError, DatasetNotFoundError, LakefeedError

ROWS = {"x": [1, 2, 3]}


@pytest.fixture
def numbers(lake: Lake) -> Dataset:
    saved = Dataset.from_dict(ROWS).save("numbers")
    Dataset.from_dict({"x": [4]}).append_to("numbers")
    saved.tag("first")
    Dataset.from_dict(ROWS).save("team.numbers")
    return saved


def changed(lake: Lake, **settings: object) -> Settings:
    return Settings.load(**{"home": lake.settings.home, **settings})


def embedded(lake: Lake) -> EmbeddedTables:
    found = EmbeddedTables.of(lake.settings, lambda: lake.catalog)
    assert found is not None
    return found


def rows(home: Path, name: str = "numbers") -> list[int]:
    lake = Lake(Settings.load(home=home))
    table = lake.table(name)
    assert isinstance(table, EmbeddedTable)
    assert lake._catalog is None
    with table.io.new_input(table.metadata_location).open() as stream:
        assert stream.read(1)
    return [snapshot.sequence_number or 0 for snapshot in table.snapshots()]


@pytest.mark.parametrize("name", ["numbers", "team.numbers"])
def test_both_ways_load_the_same_table(lake: Lake, numbers: Dataset, name: str) -> None:
    identifier = lake.identifier(name)
    ours, theirs = embedded(lake).load_table(identifier), lake.catalog.load_table(identifier)
    assert ours.metadata == theirs.metadata
    assert (ours.name(), ours.metadata_location) == (theirs.name(), theirs.metadata_location)
    assert ours.io.properties == theirs.io.properties
    assert type(ours.io) is type(theirs.io)
    assert ours.catalog is lake.catalog
    assert ours.refresh().metadata == theirs.metadata


def test_reading_opens_no_catalog_and_writing_does(lake: Lake, numbers: Dataset) -> None:
    fresh = Lake(lake.settings)
    table = fresh.table("numbers")
    assert fresh.exists("numbers")
    assert fresh._catalog is None
    with table.transaction() as transaction:
        transaction.set_properties(color="blue")
    assert fresh._catalog is not None
    assert fresh.table("numbers").properties["color"] == lake.table("numbers").properties["color"] == "blue"


def test_commits_of_others_are_seen(lake: Lake, numbers: Dataset) -> None:
    fresh = Lake(lake.settings)
    assert len(fresh.table("numbers").snapshots()) == 2
    Dataset.from_dict(ROWS).append_to("numbers")
    assert len(fresh.table("numbers").snapshots()) == 3
    numbers.delete()
    assert not fresh.exists("numbers")
    with pytest.raises(DatasetNotFoundError, match="no dataset 'numbers': deleted at"):
        fresh.table("numbers")


def test_errors_are_those_of_the_catalog(lake: Lake, numbers: Dataset) -> None:
    def told(name: str, opened: bool) -> LakefeedError:
        other = Lake(lake.settings)
        if opened:
            _ = other.catalog
        with pytest.raises(LakefeedError) as raised:
            other.table(name)
        return raised.value

    for name in ("nimbers", "nowhere.numbers"):
        quick, slow = told(name, False), told(name, True)
        assert (type(quick), str(quick)) == (DatasetNotFoundError, str(slow))
    location = Path(lake.table("numbers").metadata_location.removeprefix("file://"))
    for content in (b"not JSON", b"{}", None):
        location.write_bytes(content) if content is not None else location.unlink()
        quick, slow = told("numbers", False), told("numbers", True)
        assert (type(quick), str(quick)) == (DamagedDatasetError, str(slow))


def test_a_lake_that_was_moved_or_copied_is_read_where_it_is(lake: Lake, numbers: Dataset, tmp_path: Path) -> None:
    lake.close()
    copy = tmp_path / "copy"
    shutil.copytree(lake.settings.home, copy)
    assert rows(copy) == [1, 2]
    (tmp_path / "other").mkdir()
    moved = shutil.move(copy, tmp_path / "other" / "home")
    assert rows(Path(moved)) == [1, 2]
    linked = tmp_path / "link"
    linked.symlink_to(moved)
    assert rows(linked) == [1, 2]


def test_a_catalog_that_only_another_layout_or_setting_describes_is_opened(lake: Lake, numbers: Dataset) -> None:
    def special(**settings: object) -> bool:
        return EmbeddedTables.of(changed(lake, **settings), lambda: lake.catalog) is None

    assert not special()
    assert special(**{"catalog.uri": "postgresql+psycopg2://host/database"})
    assert special(**{"catalog.uri": "sqlite:///:memory:"})
    assert special(**{"catalog.uri": f"{lake.settings.catalog_uri}?timeout=5"})
    assert special(**{"catalog.type": "rest"})
    assert special(**{"catalog.properties": {"py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO"}})
    assert special(home=lake.settings.home / "nothing")
    assert not (lake.settings.home / "nothing").exists()
    database = lake.settings.catalog_uri.removeprefix("sqlite:///")
    with closing(sqlite3.connect(database)) as connection:  # as PyIceberg made it before it knew views
        connection.execute("ALTER TABLE iceberg_tables DROP COLUMN iceberg_type")
    assert special()
    assert len(Lake(lake.settings).table("numbers").snapshots()) == 2


def test_a_view_or_a_table_of_another_catalog_is_no_dataset(lake: Lake, numbers: Dataset) -> None:
    database = lake.settings.catalog_uri.removeprefix("sqlite:///")
    for change in ("iceberg_type = 'VIEW'", f"iceberg_type = NULL, catalog_name = '{CATALOG_NAME}2'"):
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute(f"UPDATE iceberg_tables SET {change} WHERE table_namespace = 'default'")
        assert not Lake(lake.settings).exists("numbers")


def test_a_file_that_is_no_database_is_an_error_of_the_catalog(lake: Lake, numbers: Dataset) -> None:
    reader = Lake(lake.settings)
    assert reader.exists("numbers")
    Path(lake.settings.catalog_uri.removeprefix("sqlite:///")).write_bytes(b"no database" * 1_000)
    for broken in (reader, Lake(lake.settings)):
        with pytest.raises(CatalogUnavailableError, match=r"cannot open .*: file is not a database"):
            broken.table("numbers")
