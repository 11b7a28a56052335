"""Checks of versions, each on what it is for."""

from __future__ import annotations

import datetime as dt
import errno
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from lakefeed import Dataset
from lakefeed.catalog import Lake
from lakefeed.checks import (
    Check,
    Custom,
    FilesIntact,
    Fresh,
    HasSchema,
    InRange,
    NotNull,
    Readable,
    RowCount,
    Unique,
    Verdict,
    check_names,
    evaluate,
)
from lakefeed.errors import (
    AccessDeniedError,
    CatalogUnavailableError,
    FileError,
    FormatError,
    IntegrityError,
    InvalidArgumentError,
    MissingDependencyError,
    MissingFileError,
    TransformError,
    UnreachableError,
)
from lakefeed.profiles import Profile, profile, profiles
from lakefeed.storage.blobs.blob_store import BlobStore
from tests.sdk.s3 import new_bucket, s3_server

pytestmark = pytest.mark.usefixtures("lake")


@pytest.fixture
def found() -> Profile:
    Dataset.from_dict({"id": [1, 2], "x": [0.5, None], "word": ["a", "b"]}).save("data")
    Dataset.from_dict({"id": [2, 3, 3], "x": [1.0, 2.0, None], "word": ["c", "d", "e"]}).append_to("data")
    return profile("data", 2)


SCHEMA = pa.schema({"id": pa.int64(), "x": pa.float64(), "word": pa.string()})


@pytest.mark.parametrize(
    ("check", "problem"),
    [
        (Readable(), None),
        (HasSchema(SCHEMA), None),
        (HasSchema(pa.schema({"id": pa.int64()}), more=True), None),
        (HasSchema(pa.schema({"id": pa.int64()})), "column 'x' is unexpected"),
        (HasSchema(pa.schema({"id": pa.string(), "y": pa.int8()}), more=True), "'id' is int64, not string"),
        (NotNull("id"), None),
        (NotNull(("id", "x"), at_most=0.5), None),
        (NotNull("x"), "'x': 33.3% null"),
        (Unique("word"), None),
        (Unique(("id", "x"), whole=False), None),
        (Unique("id", whole=False), r"\[3\] 2 times"),
        (Unique("id"), r"\[2\] 2 times; \[3\] 2 times"),
        (InRange("x", 0, 2), None),
        (InRange("x", 1.5), "'x' is 1.0 to 2.0"),
        (InRange("word", greatest="d"), "'word' is c to e"),
        (RowCount(1, 3), None),
        (RowCount(4), "3 rows added, at least 4"),
        (RowCount(0, 2), "3 rows added, at most 2"),
        (RowCount(max_growth=2.0), None),
        (RowCount(max_growth=1.0), r"\+150.0% rows"),
        (Fresh(3600), None),
        (Fresh(-1), "at most -1 s"),
        (FilesIntact(), None),
        (Custom("c", lambda rows: rows.count() == 3), None),
        (Custom("c", lambda rows: "too few" if rows.count() < 4 else None), "too few"),
        (Custom("c", lambda rows: False), "c is not true"),
        (Custom("c", lambda rows: Verdict(False, "no")), "no"),
        (NotNull("y"), "ColumnNotFoundError"),
    ],
)
def test_a_check_says_what_is_wrong(found: Profile, check: Check, problem: str | None) -> None:
    verdict = evaluate(check, found)
    assert verdict.passed == (problem is None), verdict
    assert re.search(problem or "^$", verdict.problem), verdict.problem


def test_losses_are_counted() -> None:
    Dataset.from_dict({"x": [1, 2, 3, 4]}).save("data")
    Dataset("data").delete_rows("x > 1")
    assert not RowCount(max_loss=0.5).check(profile("data", 2)).passed
    assert RowCount(max_loss=0.75).check(profile("data", 2)).passed


def test_a_time_column_tells_how_fresh_the_rows_are() -> None:
    now = dt.datetime.now(dt.UTC)
    Dataset.from_dict({"at": [now - dt.timedelta(hours=2)]}).save("data")
    assert Fresh(3 * 3600, "at").check(profile("data", 1)).passed
    assert not Fresh(3600, "at").check(profile("data", 1)).passed


@pytest.mark.parametrize("sample", [None, 5])
@pytest.mark.parametrize("harm", [Path.unlink, lambda blob: _overwrite(blob)])
def test_files_are_looked_up_and_compared(
    home: Path, tmp_path: Path, sample: int | None, harm: Callable[[Path], None]
) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "one.png")
    Dataset.from_dict({"image": [str(tmp_path / "one.png")]}).save("data", column_types={"image": "image"})
    assert FilesIntact(sample).check(profile("data", 1)).facts == {"files_looked_up": 1, "files_read": 1}
    found = profile("data", 1)
    [blob] = (home / "blobs" / "packs").glob("*.pack")
    harm(blob)
    assert not FilesIntact(sample).check(found).passed


def _overwrite(blob: Path) -> None:
    blob.chmod(0o600)
    blob.write_bytes(b"something else")


def test_what_cannot_be_read_has_not_passed(found: Profile) -> None:
    unread = replace(found, unread="cannot be told")
    assert evaluate(Readable(), unread).problem == "cannot be told"
    assert evaluate(NotNull("id"), unread).problem == "not checked: cannot be told"


def test_checks_have_names_of_their_own() -> None:
    assert check_names([NotNull("a", name="a"), NotNull("b", name="b")]) == ["a", "b"]
    assert check_names([NotNull("a"), NotNull("b"), Unique("a")]) == ["nulls_a", "nulls_b", "unique"]
    assert check_names([FilesIntact(), FilesIntact(sample=None)]) == ["files", "files_sample_None"]
    ranges = [InRange("x", 0), InRange("x", 0, 9), InRange("x", 0, blocking=False), InRange("größe")]
    names = check_names(ranges)
    assert names[:3] == ["range_x_least_0", "range_x_least_0_greatest_9", "range_x_least_0_blocking_False"]
    alike = [InRange("x", 1), InRange("x", -1), NotNull("a-b"), NotNull("a_b"), NotNull(("a", "b")), NotNull("é")]
    assert len(set(check_names(alike))) == len(alike)
    assert check_names([NotNull("a"), Custom("nulls", bool)]) == ["nulls_a", "nulls"]
    for equal in ([NotNull("a"), NotNull("a")], [Custom("c", bool), Custom("c", bool)], [FilesIntact(), FilesIntact()]):
        with pytest.raises(InvalidArgumentError, match="must be unique"):
            check_names(equal)
    with pytest.raises(InvalidArgumentError, match="is not a check"):
        check_names(["nulls"])


def test_a_custom_check_answers(found: Profile) -> None:
    with pytest.raises(TransformError, match="returned a int"):
        Custom("c", lambda rows: 3).check(found)


# ------------------------------------------------------------------------------------------ what is away


@pytest.fixture
def photos(tmp_path: Path) -> Profile:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    Dataset.from_dict({"photo": [str(tmp_path / "a.png")]}).with_column_types({"photo": "image"}).save("photos")
    return profile("photos", 1)


def blobs() -> Path:
    return Path(Lake.current().blobs.url.removeprefix("file://"))


def test_a_blob_store_that_is_not_mounted_is_no_verdict(photos: Profile) -> None:
    store, aside = blobs(), blobs().with_name("aside")
    store.rename(aside)
    with pytest.raises(UnreachableError, match="version 1 of 'photos' is not checked: 'files' cannot read it"):
        evaluate(FilesIntact(), photos)
    store.mkdir()  # where it was mounted
    with pytest.raises(UnreachableError, match="is it mounted"):
        evaluate(FilesIntact(), photos)
    store.rmdir()
    aside.rename(store)
    assert evaluate(FilesIntact(), photos).passed
    for file in [*store.glob("sha256/*/*"), *store.glob("packs/*")]:
        file.unlink()
    assert not evaluate(FilesIntact(), photos).passed


def test_a_warehouse_that_is_not_mounted_is_no_verdict(photos: Profile) -> None:
    name, uuid = photos.name, photos.table_uuid
    del photos
    warehouse = Path(Lake.current().settings.warehouse.removeprefix("file://"))
    (found,) = _profiled_while(name, lambda: warehouse.rename(warehouse.with_name("aside")))
    assert (found.table_uuid, found.unread, found.rows) == (uuid, None, 0)
    with pytest.raises(UnreachableError, match="not checked"):
        evaluate(Readable(), found)
    warehouse.with_name("aside").rename(warehouse)
    assert evaluate(Readable(), profile(name, 1)).passed


def _profiled_while(name: str, away: Callable[[], object]) -> list[Profile]:
    """The profile of version 1, where something goes away once the table was looked up."""

    def versions() -> Iterator[int]:
        away()
        yield 1

    return list(profiles(name, versions()))


@pytest.mark.parametrize(
    "error",
    [ConnectionRefusedError(), TimeoutError(), PermissionError(), OSError(errno.ESTALE, "stale"),
     CatalogUnavailableError("x"), MissingDependencyError("x"), AccessDeniedError("keys"),
     OSError("When reading: AWS Error NETWORK_CONNECTION")],
    ids=repr,
)  # fmt: skip
def test_a_check_that_cannot_look_gives_no_verdict(found: Profile, error: Exception) -> None:
    def fail(rows: Dataset) -> bool:
        raise FileError("cannot read") from error

    with pytest.raises(UnreachableError):
        evaluate(Custom("c", fail), found)


@pytest.mark.parametrize("error", [MissingFileError("gone"), IntegrityError("damaged"), FormatError("broken")])
def test_a_check_that_finds_damage_gives_a_verdict(found: Profile, error: Exception) -> None:
    def fail(rows: Dataset) -> bool:
        raise error

    assert not evaluate(Custom("c", fail), found).passed


@pytest.mark.live
def test_a_store_that_answers_no_more_is_unreachable(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server() as options:
        url = new_bucket(options, "blobs")
        store = BlobStore(f"{url}/store", lake.settings.cache, options)
        blob = store.put_bytes(b"abc")
        store.require_reachable()
        with pytest.raises(UnreachableError, match="empty or missing"):
            BlobStore("s3://nowhere/store", lake.settings.cache, options).require_reachable()
    fast = {**options, "config_kwargs": {"retries": {"max_attempts": 1}, "connect_timeout": 0.2}}
    with pytest.raises(UnreachableError, match="cannot be reached"):
        BlobStore(f"{url}/store", lake.settings.cache, fast).has(blob.sha256)


# ------------------------------------------------------------------------------------------ rows, not files


def test_a_restored_version_loses_no_rows() -> None:
    Dataset.from_dict({"id": list(range(10))}).save("data")
    Dataset("data").delete_rows("id < 5")
    Dataset("data").restore(1)
    newest = Dataset("data").list_versions()[0]
    assert (newest.added_records, newest.deleted_records, newest.net_records, newest.total_records) == (0, 0, 5, 10)
    assert RowCount(max_loss=0.0).check(profile("data", 3)).passed
    assert not RowCount(max_growth=0.5).check(profile("data", 3)).passed
    Dataset.from_dict({"id": [3, 20]}).upsert_into("data", keys="id")
    Dataset("data").restore(2)
    newest = Dataset("data").list_versions()[0]
    assert (newest.deleted_records, newest.net_records) == (Dataset("data").removed_since(4).count(), -6)
    assert newest.deleted_records == 6


def test_rows_that_another_client_wrote_again_are_not_lost_by_a_restore() -> None:
    Dataset.from_dict({"id": [1, 2, 3]}).save("data")
    Lake.current().table("data").delete("id = 2")
    Dataset.from_dict({"id": [4]}).append_to("data")
    Dataset("data").restore(1)
    newest = Dataset("data").list_versions()[0]
    assert (newest.deleted_records, newest.net_records) == (1, 0)
    assert Dataset("data").removed_since(3).to_arrow()["id"].to_pylist() == [4]


def test_a_version_before_which_others_expired_is_checked_by_its_own_rows() -> None:
    Dataset.from_dict({"id": [1]}).save("data")
    for value in (2, 3):
        Dataset.from_dict({"id": [value]}).append_to("data")
    table = Lake.current().table("data")
    table.maintenance.expire_snapshots().by_ids([s.snapshot_id for s in table.metadata.snapshots[:2]]).commit()
    found = profile("data", 3)
    assert (found.rows, evaluate(Readable(), found).passed) == (1, True)
