"""Snapshots that another program expired, and manifests as other programs write them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.manifest import ManifestEntry, ManifestEntryStatus, ManifestWriter

from lakefeed import Dataset, connect
from lakefeed.catalog import Lake, list_versions
from lakefeed.catalog.forget_version import forget_version
from lakefeed.config import Settings
from lakefeed.errors import UnsupportedError, VersionNotFoundError
from lakefeed.routines import Routine, run_routine, run_versions
from lakefeed.routines.pending import pending
from tests.sdk.prepared_homes import PreparedHomes

COPY = Routine("copy", lambda rows: rows, "t", "copied")


@pytest.fixture
def t(prepared_homes: PreparedHomes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    """Five versions: 1, 2, 3, then row 2 is deleted, then 5."""

    def build() -> None:
        Dataset.from_dict({"id": [1]}).save("t")
        for value in (2, 3):
            add(value)
        Dataset("t").delete_rows("id = 2")
        add(5)

    prepared_homes.enter("t", build, monkeypatch)
    with closing(Lake(Settings.load())) as lake:
        yield lake


def add(*values: int) -> None:
    Dataset.from_dict({"id": list(values)}).append_to("t")


def ids(rows: Dataset) -> list[int]:
    return sorted(rows.to_arrow()["id"].to_pylist())


def expire(lake: Lake, *numbers: int) -> None:
    snapshots = {snapshot.sequence_number: snapshot.snapshot_id for snapshot in lake.table("t").metadata.snapshots}
    lake.table("t").maintenance.expire_snapshots().by_ids([snapshots[number] for number in numbers]).commit()


def roll_back(lake: Lake, number: int) -> None:
    for snapshot in lake.table("t").metadata.snapshots:
        if snapshot.sequence_number == number:
            lake.table("t").manage_snapshots().set_current_snapshot(snapshot.snapshot_id).commit()


def numbers(lake: Lake) -> list[int]:
    return [version.version for version in list_versions(lake.table("t"))]


@pytest.fixture(params=["metadata files are there", "metadata files are gone"])
def metadata_files(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other clients keep fewer metadata files, or none but the current one."""
    if request.param == "metadata files are gone":
        monkeypatch.setattr("lakefeed.catalog.metadata_files.read_metadata", lambda table, location: None)


# ------------------------------------------------------------------------------------------ which versions there are


MIDDLE = [((2,), [5, 4, 3, 1]), ((2, 4), [5, 3, 1]), ((1, 4), [5, 3, 2])]


@pytest.mark.usefixtures("metadata_files")
@pytest.mark.parametrize(("gone", "left"), MIDDLE)
def test_older_versions_stay_when_one_in_the_middle_expires(t: Lake, gone: tuple[int, ...], left: list[int]) -> None:
    expire(t, *gone)
    assert numbers(t) == left
    assert ids(Dataset("t", version=left[-1])) == list(range(1, left[-1] + 1))
    with pytest.raises(VersionNotFoundError):
        Dataset("t", version=gone[0]).count()


def test_an_expired_version_hides_none_after_an_overwrite(t: Lake) -> None:
    Dataset.from_dict({"id": [9]}).overwrite("t")
    add(10)
    expire(t, 5, 6)
    assert numbers(t) == [7, 4, 3, 2, 1]


@pytest.mark.usefixtures("metadata_files")
@pytest.mark.parametrize("gone", [(1,), (1, 6), (1, 4), (1, 2, 3, 4)])
def test_rolled_back_versions_are_no_ancestors_over_a_gap(t: Lake, gone: tuple[int, ...]) -> None:
    roll_back(t, 1)
    add(6)
    add(7)
    expire(t, *gone)
    assert numbers(t) == [number for number in (7, 6, 1) if number not in gone]


def test_what_files_and_log_do_not_tell_the_metadata_file_of_the_commit_tells(t: Lake) -> None:
    roll_back(t, 1)
    Dataset.from_dict({"id": [6]}).overwrite("t")
    expire(t, 1)
    assert numbers(t) == [6]
    Dataset.from_dict({"id": [7]}).overwrite("t")
    Dataset.from_dict({"id": [8]}).overwrite("t")
    expire(t, 6, 7)
    assert numbers(t) == [8]


def test_versions_of_a_branch_are_no_ancestors_over_a_gap(t: Lake) -> None:
    table = t.table("t")
    table.manage_snapshots().create_branch(table.current_snapshot().snapshot_id, "side").commit()
    t.table("t").append(pa.table({"id": [60]}), branch="side")
    add(7)
    add(8)
    expire(t, 5, 7)
    assert numbers(t) == [8, 4, 3, 2, 1]
    t.table("t").manage_snapshots().set_current_snapshot(ref_name="side").commit()
    assert numbers(t) == [6, 4, 3, 2, 1]
    assert ids(Dataset("t")) == [1, 3, 5, 60]


def test_a_first_version_has_none_before_it(lake: Lake) -> None:
    Dataset.from_dict({"id": [1]}).save("t")
    Dataset("t").delete()
    Dataset.from_dict({"id": [1]}).save("t")
    assert len(numbers(lake)) == 1


# ------------------------------------------------------------------------------------------ what changed across a gap


def test_rows_of_expired_versions_are_added_once(t: Lake) -> None:
    expire(t, 3)
    assert ids(Dataset("t").added_since(2)) == [3, 5]
    assert ids(Dataset("t").added_since(1)) == [2, 3, 5]
    assert ids(Dataset("t").added_since()) == [1, 2, 3, 5]
    assert ids(Dataset("t", version=4).added_since(2)) == [3]
    assert ids(Dataset("t").removed_since(1)) == [2]
    report = Dataset("t").changes(1)
    assert (report.added, report.removed) == (2, 0)


def test_rows_that_expired_versions_removed(t: Lake) -> None:
    expire(t, 4)
    assert ids(Dataset("t").added_since(3)) == [5]
    assert ids(Dataset("t").removed_since(3)) == [2]
    assert ids(Dataset("t").removed_since(1)) == [2]


def test_equal_rows_are_told_from_moved_ones_over_a_gap(lake: Lake) -> None:
    Dataset.from_dict({"id": [1, 1, 2]}).save("t")
    Dataset("t").delete_rows("id = 2")
    add(1)
    add(3)
    expire(lake, 2, 3)
    assert ids(Dataset("t").added_since(1)) == [1, 3]
    assert ids(Dataset("t").removed_since(1)) == [2]


def test_restored_rows_are_not_added_over_a_gap(t: Lake) -> None:
    Dataset("t").restore(2)
    add(7)
    expire(t, 6)
    assert ids(Dataset("t").added_since(5)) == [7]


# ------------------------------------------------------------------------------------------ routines


GONE = [(2,), (3,), (1, 2), (1, 2, 3), (2, 3), (1, 2, 3, 4), (3, 4)]


@pytest.mark.parametrize(
    ("read", "gone"),
    [
        *(pytest.param(None, gone, marks=pytest.mark.live) for gone in GONE),
        *((2, gone) for gone in GONE[:3]),  # at the edge of a gap, before and after one
        *(pytest.param(2, gone, marks=pytest.mark.live) for gone in GONE[3:]),
        *(pytest.param(read, gone, marks=pytest.mark.live) for read in (1, 3) for gone in ((2,), (1, 2, 3), (3, 4))),
    ],
)
def test_a_routine_reads_every_row_once_over_a_gap(t: Lake, read: int | None, gone: tuple[int, ...]) -> None:
    if read is not None:
        list(run_versions(COPY, up_to=read))
    expire(t, *gone)
    done = list(run_versions(COPY))
    copied = ids(Dataset("copied"))
    assert copied == sorted(set(copied))
    assert {1, 3, 5} <= set(copied) <= {1, 2, 3, 5}
    assert sum(result.rows_in for result in done) == len(copied) - (read or 0)
    assert pending(COPY) is None


def test_a_large_version_over_a_gap_is_split(lake: Lake) -> None:
    Dataset.from_dict({"id": [1]}).save("t")
    list(run_versions(COPY))
    for first in range(10, 40, 10):
        add(*range(first, first + 5))
    expire(lake, 1, 2, 3)
    parts = Routine("copy", lambda rows: rows, "t", "copied", max_rows_per_run=4)
    assert [result.rows_in for result in run_versions(parts)] == [4, 4, 4, 3]
    assert ids(Dataset("copied")) == [1, *(v for first in range(10, 40, 10) for v in range(first, first + 5))]


def test_a_removed_version_brings_rows_of_expired_ones(lake: Lake) -> None:
    Dataset.from_dict({"id": [1, 2]}).save("t")
    list(run_versions(COPY))
    add(3)
    Dataset("t").delete_rows("id = 1")
    expire(lake, 1, 2)
    list(run_versions(COPY))
    assert ids(Dataset("copied")) == [1, 2, 3]


def test_rows_that_cannot_be_told_over_a_gap_are_an_error(lake: Lake) -> None:
    Dataset.from_dict({"id": [1]}).save("t")
    add(2)
    list(run_versions(COPY))
    Dataset.from_dict({"id": [1, 2, 3]}).overwrite("t")
    add(4)
    add(5)
    expire(lake, 2, 3)
    with pytest.raises(UnsupportedError, match="between 2 and 4 have expired"):
        list(run_versions(COPY))
    assert ids(Dataset("copied")) == [1, 2]


def test_a_routine_reads_a_branch_that_is_published_in_place_of_what_it_has_read(t: Lake) -> None:
    table = t.table("t")
    table.manage_snapshots().create_branch(table.current_snapshot().snapshot_id, "side").commit()
    t.table("t").append(pa.table({"id": [60]}), branch="side")
    add(7)
    list(run_versions(COPY))
    t.table("t").manage_snapshots().set_current_snapshot(ref_name="side").commit()
    assert [version.version for version in pending(COPY).versions] == [6]
    add(8)
    list(run_versions(COPY))
    assert ids(Dataset("copied")) == [1, 2, 3, 5, 7, 8, 60]
    roll_back(t, 7)
    list(run_versions(COPY))
    assert ids(Dataset("copied")) == [1, 2, 3, 5, 7, 8, 60]


# ------------------------------------------------------------------------------------------ entries of files left out


@pytest.fixture(params=["an old snapshot id", "no entry"])
def other_writer(t: Lake, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyIceberg, as it or others write what they leave out: some with the id of the snapshot that added the file."""
    honest: Callable[[ManifestWriter, ManifestEntry], ManifestWriter] = ManifestWriter.add_entry

    def add_entry(writer: ManifestWriter, entry: ManifestEntry) -> ManifestWriter:
        if entry.status == ManifestEntryStatus.DELETED:
            by_number = {s.sequence_number: s.snapshot_id for s in t.table("t").metadata.snapshots}
            entry.snapshot_id = by_number[entry.sequence_number]
            if request.param == "no entry":
                writer._deleted_files += 1  # which the manifest must count
                return writer
        return honest(writer, entry)

    monkeypatch.setattr(ManifestWriter, "add_entry", add_entry)
    return


@pytest.mark.live
@pytest.mark.usefixtures("other_writer")
def test_what_others_left_out_is_told_whatever_the_entries_say(t: Lake) -> None:
    add(6, 7)
    list(run_versions(COPY))
    removed = Routine("gone", lambda rows: rows, "t", "removed", when=_removed())
    list(run_versions(removed))
    table = t.table("t")
    start = numbers(t)[0]
    table.delete("id = 6")
    table.overwrite(pa.table({"id": [3, 8]}), overwrite_filter="id in (3, 5)")
    assert ids(Dataset("t")) == [1, 3, 7, 8]
    assert ids(Dataset("t").added_since(start, start + 1)) == []
    assert ids(Dataset("t").removed_since(start, start + 1)) == [6]
    assert ids(Dataset("t").removed_since(start)) == [3, 5, 6]
    assert ids(Dataset("t").added_since(start)) == [3, 8]
    report = Dataset("t").changes(start)
    assert (report.added, report.removed) == (1, 2)
    list(run_versions(COPY))
    list(run_versions(removed))
    assert ids(Dataset("copied")) == [1, 2, 3, 3, 5, 6, 7, 8]
    assert ids(Dataset("removed")) == [2, 3, 5, 6]


def _removed() -> object:
    from lakefeed.routines import Removed

    return Removed()


# ------------------------------------------------------------------------- clients that keep little of the history


def forget(lake: Lake, *numbers: int) -> None:
    """Removes versions as `FileTree.delete` does."""
    snapshots = {snapshot.sequence_number: snapshot.snapshot_id for snapshot in lake.table("t").metadata.snapshots}
    for number in numbers:
        forget_version(lake, "t", snapshots[number])


def expire_like_spark(lake: Lake, *numbers: int) -> None:
    """Expires versions as Iceberg's Java library does: the log begins after the gap. Old metadata files are gone."""
    expire(lake, *numbers)
    table = lake.table("t")
    location = Path(table.metadata_location.removeprefix("file://"))
    metadata = json.loads(location.read_text())
    for entry in metadata["metadata-log"]:
        Path(entry["metadata-file"].removeprefix("file://")).unlink(missing_ok=True)
    metadata.update({"metadata-log": [], "snapshot-log": metadata["snapshot-log"][-1:]})
    new = location.with_name(f"09999-{uuid.uuid4()}.metadata.json")
    new.write_text(json.dumps(metadata))
    lake.catalog.drop_table(table.name())
    lake.catalog.register_table(table.name(), str(new))


EXPIRY = [expire, forget, expire_like_spark]


@pytest.mark.parametrize("remove", EXPIRY)
@pytest.mark.parametrize("gone", [(2, 4), *(pytest.param(each, marks=pytest.mark.live) for each in ((3,), (2, 3)))])
def test_older_versions_stay_whoever_removes_one(t: Lake, remove: Callable[..., None], gone: tuple[int, ...]) -> None:
    rows = {number: ids(Dataset("t", version=number)) for number in numbers(t)}
    moments = {version.version: version.timestamp_ms for version in list_versions(t.table("t"))}
    added = {since: set(ids(Dataset("t").added_since(since))) for since in rows if since not in gone and since < 5}
    run_routine(COPY, up_to=1)
    remove(t, *gone)
    assert numbers(t) == [number for number in (5, 4, 3, 2, 1) if number not in gone]
    for number in numbers(t):
        assert ids(Dataset("t", version=number)) == rows[number]
        assert Dataset("t").changes(number).added == len({*rows[5]} - {*rows[number]})
        if number < 5:
            assert {*rows[5]} - {*rows[number]} <= set(ids(Dataset("t").added_since(number))) <= added[number]
    for number in gone:
        for read in (lambda n=number: Dataset("t", version=n).count(), lambda n=number: Dataset("t").added_since(n)):
            with pytest.raises(VersionNotFoundError, match=rf"no version {number}: it has expired, was deleted"):
                read()
    assert Dataset("t", as_of=moments[5]).version == 5
    while pending(COPY) is not None:
        run_routine(COPY)
    assert ids(Dataset("copied")) in ([1, 2, 3, 5], [1, 3, 5])


def test_an_empty_version_stays_when_the_one_after_it_is_removed(home: Path) -> None:
    table = connect().create_table("t", key_schema={"id": pa.int64()})
    for number in (1, 2, 3):
        table.write({"id": [number]})
    table.delete_keys({"id": [2]})
    with closing(Lake(Settings.load())) as lake:
        expire_like_spark(lake, 2, 4)
        assert numbers(lake) == [5, 3, 1]
    assert ids(Dataset("t", version=3)) == [1, 2]


def test_side_versions_are_recorded_and_are_no_ancestors_over_a_gap(t: Lake) -> None:
    roll_back(t, 2)
    Dataset.from_dict({"id": [6]}).overwrite("t")
    Dataset.from_dict({"id": [7]}).overwrite("t")
    expire_like_spark(t, 6)
    assert numbers(t) == [7, 2, 1]
    entry = t.table("t").current_snapshot().summary.additional_properties["lakefeed.side-snapshots"]
    assert len(entry.split(",")) == 3
