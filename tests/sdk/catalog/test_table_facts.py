"""What a metadata file tells without PyIceberg is what PyIceberg tells."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.table.metadata import TableMetadataUtil

from lakefeed import Dataset, FileTree, Table
from lakefeed.catalog import table_listing, version_tags, versions
from lakefeed.catalog.damaged_tables import damage_errors
from lakefeed.catalog.dataset_summary import DatasetSummary, _load_each, summarize
from lakefeed.catalog.durability import local_path
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.snapshot_facts import parse_table_facts
from lakefeed.errors import DamagedDatasetError
from tests.sdk.foreign_deletes import Deletes, commit_deletes


def save(name: str, *values: int) -> Dataset:
    return Dataset.from_dict({"id": list(values)}).save(name, if_exists="append")


DAMAGED_ENTRIES = {
    "miscounted": {"total-records": "many"},
    "misnumbered": {"lakefeed.version-numbers": "{"},
    "untyped": {"lakefeed.column-types": '{"id": ""}'},
    "misdropped": {"lakefeed.dropped-column-types": '{"id": "image"}'},
}


def many_tables(lake: Lake, folder: Path) -> None:
    """Saves datasets of every kind: of lakefeed, of other writers, and damaged ones."""
    for values in ((1, 2, 3, 4), (5,)):
        save("tagged", *values)
    Dataset("tagged").tag("first", 1)
    Dataset("tagged", version=1).tag("z")
    Dataset("tagged").delete_rows("id = 2")
    Dataset("tagged").update(description="Numbers")
    Dataset("tagged").restore(1)
    save("team.inner", 1)
    save("trashed", 1).delete()
    save("moved", 1).move("team.moved")
    keyed = Table.create("enriched", key_schema={"id": pa.int64()})
    keyed.write({"id": [1, 2], "x": [1, 2]})
    keyed.enrich({"y": keyed["x"] * 2}, where="id = 2").apply()
    Table.create("empty", key_schema={"id": pa.int64()})
    (folder / "a.txt").write_text("a")
    Dataset.from_dict({"f": [str(folder / "a.txt")], "g": [1]}).save("files", column_types={"f": "file"})
    Dataset("files").rename_column("f", "renamed")
    tree = FileTree.create("tree", "trees")
    tree.add_files(folder / "a.txt")
    tree.upload(show_progress=False)
    tree.finalize()
    rows = pa.table({"id": [1, 2, 3]})
    for name, version in (("first_format", "1"), ("foreign", "2"), ("expired", "2")):
        table = lake.catalog.create_table(f"default.{name}", rows.schema, properties={"format-version": version})
        table.append(rows)
        table.overwrite(rows.slice(1))
        table.delete("id = 3")
        table.append(rows)
    expired = [each.snapshot_id for each in table.metadata.snapshots][1:2]
    table.maintenance.expire_snapshots().by_ids(expired).commit()
    save("deleted_rows", 1, 2, 3)
    table = lake.catalog.load_table("default.deleted_rows")
    path = next(iter(table.scan().plan_files())).file.file_path
    commit_deletes(table, folder, Deletes([(path, 0)]))
    for name, text in (("broken", "{"), ("other", '{"a": 1}'), ("cut", None), ("nested", "[" * 100_000)):
        save(name, 1)
        file = metadata_file(lake, name)
        file.unlink() if text is None else file.write_text(text)
    for name, entry in DAMAGED_ENTRIES.items():
        save(name, 1)
        file = metadata_file(lake, name)
        metadata = json.loads(file.read_text())
        entries = metadata["snapshots"][0]["summary"] if name == "miscounted" else metadata["properties"]
        entries.update(entry)
        file.write_text(json.dumps(metadata))
    for name, encoding, description in (("marked", "utf-8-sig", "text"), ("escaped", "utf-8", r"\ud800")):
        save(name, 1)
        file = metadata_file(lake, name)
        entry = f'"properties":{{"lakefeed.description":"{description}",'
        file.write_text(file.read_text().replace('"properties":{', entry), encoding=encoding)


def metadata_file(lake: Lake, name: str) -> Path:
    path = local_path(str(lake.metadata_location(lake.identifier(name))))
    assert path is not None
    return path


BY_PYICEBERG = {"first_format", "expired", "deleted_rows", "broken", "cut", "other", "nested", "marked"}
BY_PYICEBERG |= {"escaped", "miscounted", "misnumbered"}


def test_facts_and_summaries_without_pyiceberg_are_those_of_the_tables(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many_tables(lake, tmp_path)
    fresh, names = Lake(lake.settings), lake.names()
    assert fresh.names() == names  # of the catalog, and of its SQLite file
    summaries = dict(summarize(Lake(lake.settings), names))
    assert list(summaries) == names
    without = set[str]()
    for name in names:
        facts = table_listing.table_facts(fresh, name)
        if facts is None:
            without.add(name)
            continue
        table = lake.table(name)
        assert [each.entry for each in facts.versions] == versions.list_versions(table), name
        assert {each.entry.table_uuid for each in facts.versions} <= {facts.table_uuid}
        assert facts.tags == version_tags.tags(table), name
        assert facts.properties == table.properties
    assert without == BY_PYICEBERG
    for name, expected in _load_each(lake, names):
        if isinstance(expected, DatasetSummary):
            assert summaries[name] == expected
        else:
            assert isinstance(summaries[name], DamagedDatasetError)
    again = Lake(lake.settings)
    chosen = sorted(set(names) - without - DAMAGED_ENTRIES.keys())
    with monkeypatch.context() as patch:
        patch.setattr(table_listing, "facts_at", lambda lake, location: pytest.fail(f"{location} was read"))
        assert dict(summarize(again, chosen)) == {name: summaries[name] for name in chosen}
    metadata_file(lake, "tagged").write_text("{")
    assert isinstance(dict(summarize(again, ["tagged"]))["tagged"], DamagedDatasetError)


def test_compressed_metadata_is_what_its_name_says(document: dict[str, Any]) -> None:
    plain, location = json.dumps(document).encode(), "file:///m.gz.metadata.json"
    packed = gzip.compress(plain)
    assert parse_table_facts(location, packed) == parse_table_facts("file:///m.metadata.json", plain) is not None
    for content in (plain, packed[:-5], packed + b"more"):
        assert parse_table_facts(location, content) is None
        with pytest.raises(DamagedDatasetError), damage_errors("one"):
            gzip.decompress(content)


def paths(value: Any) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (key,)
        yield from ((key, *rest) for rest in paths(item))


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from lakefeed.config import Settings

    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAKEFEED_HOME", str(home))
        with closing(Lake(Settings.load())) as lake:
            save("one", 1, 2)
            save("one", 3)
            Dataset("one").tag("t", 1)
            Dataset("one").delete_rows("id = 2")
            text = metadata_file(lake, "one").read_text()
    parsed: dict[str, Any] = json.loads(text)
    return parsed


@given(data=st.data())
def test_a_metadata_file_that_pyiceberg_refuses_has_no_facts(document: dict[str, Any], data: st.DataObject) -> None:
    changed = json.loads(json.dumps(document))
    *path, key = data.draw(st.sampled_from(sorted(paths(changed), key=str)))
    inner = changed
    for each in path:
        inner = inner[each]
    value = data.draw(st.sampled_from([..., None, [], {}, "", "text", 0, 7, -1, 1.5, True, "3"]))
    if value is ...:
        del inner[key]
    else:
        inner[key] = value
    facts = parse_table_facts("file:///m.metadata.json", json.dumps(changed).encode())
    if facts is None:
        return
    metadata = TableMetadataUtil.parse_obj(changed)
    assert facts.table_uuid == str(metadata.table_uuid)
    assert facts.properties == metadata.properties
    current = metadata.current_snapshot()
    assert (current is None) == (not facts.versions)
    if current is not None:
        assert facts.versions[0].entry == versions.version_of(current, Holder(metadata))  # type: ignore[arg-type]


class Holder:
    """The part of a table that a version is made of."""

    def __init__(self, metadata: Any) -> None:
        self.metadata = metadata
