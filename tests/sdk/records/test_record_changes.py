"""Facts of records that change, the trash, and what garbage collections keep."""

from __future__ import annotations

import datetime as dt
from io import BytesIO
from pathlib import Path

import pytest

from lakefeed import Dataset, Provenance, collect_garbage
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.version_uids import random_uid
from lakefeed.errors import (
    CatalogUnavailableError,
    InUseError,
    InvalidArgumentError,
    RecordNotFoundError,
    UnsupportedError,
    VersionNotFoundError,
)
from lakefeed.records import record_changes as changes
from lakefeed.records.inserts import now_ms
from lakefeed.records.record_registry import Registry
from lakefeed.records.record_tables import INPUT, RECORD, Presence
from lakefeed.records.text_search import with_search_text
from lakefeed.records.visible_rows import Visibility

DAY = dt.timedelta(days=1)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("LAKEFEED_HOME", str(tmp_path))
    Dataset.from_dict({"x": [1]}).save("a", provenance=Provenance(run="r"))
    Dataset.from_dict({"x": [2]}).append_to("a")
    return Registry.open()


def add_file(registry: Registry, sha256: str | None = None, presence: Presence = Presence.PRESENT) -> str:
    uid = random_uid()
    row = {"uid": uid, "stem": uid[:16], "revision": 1, "kind": "file", "name": "f", "sha256": sha256}
    with registry.write() as connection:
        times = {"created": now_ms(), "updated": now_ms()}
        connection.execute(RECORD.insert().values(with_search_text({**row, "presence": int(presence), **times})))
    return uid


def test_texts_labels_features_and_facts_change(registry: Registry) -> None:
    first, second = registry.query().order_by("revision")
    changed = changes.describe(registry, first.uid, description="About Öl", reference="doi:1", reference_type="doi")
    assert (changed.description, changed.reference, changed.reference_type) == ("About Öl", "doi:1", "doi")
    assert changed.updated >= first.updated
    assert registry.query().search("öl").one() == changed
    assert changes.describe(registry, first.uid, description=None).description is None
    changes.add_labels(registry, first.uid, ["red", "blue"])
    changes.add_labels(registry, second.uid, ["red"])
    changes.remove_labels(registry, first.uid, ["red", "unknown"])
    assert [each.uid for each in registry.query().filter(labels="red")] == [second.uid]
    assert [each.name for each in registry.labels.filter(record=first.uid)] == ["blue"]
    changes.set_features(registry, first.uid, {"columns": ["x", "y"]})
    changes.set_features(registry, first.uid, {"columns": ["y", "z"], "obs": ["x"]})
    assert [each.name for each in registry.features.filter(record=first.uid)] == ["x", "y", "z"]
    assert registry.query().filter(feature="z").one().uid == first.uid
    assert registry.feature_sets.filter(feature="y").count() == 2
    changes.put_fact(registry, first.uid, "report", "report", {"a": 1})
    changes.put_fact(registry, first.uid, "report", "report", {"a": 2})
    assert changes.facts_of(registry, first.uid) == {"report": {"a": 2}}
    with pytest.raises(InvalidArgumentError, match="'name' does not change"):
        changes.describe(registry, first.uid, name="other")
    with pytest.raises(InvalidArgumentError, match="list of names"):
        changes.add_labels(registry, first.uid, "red")
    with pytest.raises(RecordNotFoundError):
        changes.describe(registry, "none", description="x")


def test_the_trash_hides_a_version_and_gives_it_back(registry: Registry) -> None:
    first, second = registry.query().order_by("revision")
    changes.delete_record(registry, second.uid)
    assert registry.query().filter(latest=True).one().uid == first.uid
    assert registry.query().filter(visibility="trash").one().uid == second.uid
    assert Dataset("a").count() == 2  # pinned readers and the dataset keep it
    assert registry.get(second.uid).visibility is Visibility.TRASH
    changes.set_visibility(registry, second.uid, "default")
    assert registry.query().filter(latest=True).one().uid == second.uid
    Dataset("a").delete()
    with pytest.raises(UnsupportedError, match="undelete"):
        changes.set_visibility(registry, second.uid, 1)
    with pytest.raises(UnsupportedError, match="empty_trash"):
        changes.delete_record(registry, second.uid, permanent=True)
    with pytest.raises(InvalidArgumentError, match="expire"):
        changes.set_visibility(registry, second.uid, "gone")


def test_a_used_version_is_deleted_for_good_only_by_force(registry: Registry) -> None:
    first, second = registry.query().order_by("revision")
    with registry.write() as connection:
        connection.execute(INPUT.insert().values(run=first.run, record=first.uid, at=1))
    Dataset("a", version=1).tag("gold")
    with pytest.raises(InUseError, match="run r") as raised:
        changes.delete_record(registry, first.uid, permanent=True)
    assert raised.value.users == ("run r", "tag 'gold'")
    Dataset("a").untag("gold")
    gone = changes.delete_record(registry, first.uid, permanent=True, force=True)
    assert gone is not None
    assert gone.visibility is Visibility.GONE
    with pytest.raises(VersionNotFoundError):
        Dataset("a", version=1).count()
    assert registry.query().one().uid == second.uid
    assert changes.delete_record(registry, first.uid, permanent=True) == gone
    uid = add_file(registry)
    assert changes.delete_record(registry, uid, permanent=True) is None
    with pytest.raises(RecordNotFoundError):
        registry.get(uid)


def test_contents_of_records_are_no_garbage_until_they_are_deleted_for_good(registry: Registry) -> None:
    lake = Lake.current()
    with lake.blobs.open_writer() as writer:
        digests = [writer.put_single(BytesIO(bytes([n]) * 10)).sha256 for n in range(5)]
        writer.flush()
        uids = [add_file(registry, digests[0]), add_file(registry, digests[1], Presence.PENDING)]
        changes.put_fact(registry, uids[0], "model", "model", {}, digests[2])
        add_file(registry, digests[3], Presence.GONE)
    changes.delete_record(registry, uids[0])

    def collect() -> set[str]:
        collect_garbage(dry_run=False, grace=dt.timedelta(0))
        return {digest for digest in digests if lake.blobs.has(digest)}

    assert collect() == {digests[0], digests[1], digests[2]}
    changes.delete_record(registry, uids[0], permanent=True)
    assert collect() == {digests[1]}


def test_an_unreadable_registry_stops_a_collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED_HOME", str(tmp_path))
    monkeypatch.setenv("LAKEFEED__REGISTRY__URI", f"sqlite:///{tmp_path}/own.db")
    Dataset.from_dict({"x": [1]}).save("a")
    assert collect_garbage().postponed is None  # there is no registry yet
    assert not (tmp_path / "own.db").exists()
    Registry.open().catch_up()
    assert collect_garbage().postponed is None
    (tmp_path / "own.db").write_bytes(b"broken" * 1000)
    with pytest.raises(CatalogUnavailableError, match="registry"):
        collect_garbage(dry_run=False)
