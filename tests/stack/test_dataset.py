"""A Dataset's life on PostgreSQL and S3, through both ways in which PyIceberg reaches an S3."""

from __future__ import annotations

import datetime as dt
import os
import signal
import time
from pathlib import Path

import pytest

from lakefeed import Dataset, collect_garbage
from lakefeed.catalog.lake import Lake
from lakefeed.errors import DatasetExistsError
from tests.sdk.media.pictures import encoded, write
from tests.stack.processes import finish, start
from tests.stack.servers import BUCKET, Stack

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.usefixtures("name")]

APPENDS = """
from lakefeed.errors import DatasetExistsError
try:
    Dataset.from_dict({"x": [-me]}).save("numbers")
    say("made")
except DatasetExistsError:
    pass
for step in range(int(sys.argv[2])):
    Dataset.from_dict({"x": [me * 1000 + step]}).append_to("numbers")
    say(me * 1000 + step)
"""
UPSERTS = """
for step in range(int(sys.argv[2])):
    Dataset.from_dict({"id": list(range(step, step + 5)), "by": [me] * 5}).upsert_into("keyed", keys="id")
"""


def numbers(*values: int) -> Dataset:
    return Dataset.from_dict({"id": list(values), "x": [value * 10 for value in values]})


def values(name: str, column: str) -> list[int]:
    return Dataset(name).to_arrow()[column].to_pylist()


@pytest.mark.usefixtures("file_io")
def test_rows_are_written_changed_read_and_restored() -> None:
    numbers(1, 2, 3).save("numbers", description="On a server")
    numbers(4).append_to("numbers")
    Dataset("numbers").tag("good")
    assert Dataset("numbers").filter("x > 10").to_arrow()["id"].to_pylist() == [2, 3, 4]
    numbers(4, 5).upsert_into("numbers", keys="id")
    Dataset("numbers").delete_rows("id == 1")
    assert values("numbers", "id") == [2, 3, 4, 5]
    assert Dataset("numbers").added_since(1).to_arrow()["id"].to_pylist() == [4, 5]
    assert Dataset("numbers").removed_since(2).to_arrow()["id"].to_pylist() == [1]
    Dataset("numbers").restore("good")
    numbers(9).overwrite("numbers")
    assert len(Dataset("numbers", version="good")) == 4
    assert [version.total_records for version in Dataset("numbers").list_versions()] == [1, 4, 4, 5, 4, 3]
    with pytest.raises(DatasetExistsError):
        numbers(1).save("numbers")
    Dataset("numbers").delete(permanent=True)
    assert not Dataset.exists("numbers")


@pytest.mark.usefixtures("file_io")
def test_a_loader_shuffles_resumes_and_reads_from_the_cache(tmp_path: Path) -> None:
    numbers(*range(500)).save("numbers")

    def batches(rows: Dataset, state: dict[str, object] | None = None) -> tuple[list[int], dict[str, object]]:
        loader = rows.shuffle(seed=1).to_torch(batch_size=50)
        if state is not None:
            loader.load_state_dict(state)
        seen: list[int] = []
        for step, batch in enumerate(loader):
            seen += batch["id"].tolist()
            if state is None and step == 4:
                return seen, loader.state_dict()
        return seen, {}

    begun, state = batches(Dataset("numbers"))
    rest, _ = batches(Dataset("numbers"), state)
    assert begun + rest == [row["id"] for row in Dataset("numbers").shuffle(seed=1)]
    assert sorted(begun + rest) == list(range(500))
    assert Dataset("numbers").cache().to_arrow().equals(Dataset("numbers").to_arrow())


@pytest.mark.usefixtures("file_io")
def test_files_go_into_packs_and_come_back_as_they_were(servers: Stack, name: str, tmp_path: Path) -> None:
    small = [write(tmp_path / f"{number}.png") for number in range(3)]
    large = write(tmp_path / "large.bin", os.urandom(20 << 20))
    Dataset.from_dict({"photo": small}).save("photos", column_types={"photo": "image"})
    Dataset.from_dict({"file": [large]}).save("large", column_types={"file": "file"})
    assert [row["photo"].bytes() for row in Dataset("photos").rows()] == [encoded()] * 3
    assert [row["photo"].width for row in Dataset("photos").filter("photo.width > 0")] == [12] * 3
    assert next(iter(Dataset("large").rows()))["file"].bytes() == Path(large).read_bytes()
    assert len(servers.store.keys(f"{name}/blobs/")) >= 2


@pytest.mark.usefixtures("file_io")
def test_what_deleted_datasets_and_dead_writers_leave_is_collected(servers: Stack, name: str, tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{number}.bin", os.urandom(100)) for number in range(2)]
    Dataset.from_dict({"file": paths[:1]}).save("kept", column_types={"file": "file"})
    Dataset.from_dict({"file": paths[1:]}).save("gone", column_types={"file": "file"})
    Dataset("gone").delete(permanent=True)
    before = servers.store.keys(f"{name}/")
    report = collect_garbage(False, grace=dt.timedelta(0), patience=dt.timedelta(0))
    assert report.packs == 1
    assert set(servers.store.keys(f"{name}/")) < set(before)
    assert next(iter(Dataset("kept").rows()))["file"].bytes() == Path(paths[0]).read_bytes()


def test_eight_writers_at_once_all_land_and_one_of_them_makes_the_dataset() -> None:
    said = "".join(finish([start(APPENDS, me, 3) for me in range(1, 9)]))
    assert said.count("made") == 1
    expected = [me * 1000 + step for me in range(1, 9) for step in range(3)]
    assert sorted(values("numbers", "x"))[1:] == expected
    assert [version.version for version in Dataset("numbers").list_versions()] == list(range(25, 0, -1))


@pytest.mark.soak
def test_a_hundred_appends_of_eight_writers_each_all_land() -> None:
    finish([start(APPENDS, me, 100) for me in range(1, 9)], patience=3600.0)
    assert sorted(values("numbers", "x"))[1:] == [me * 1000 + step for me in range(1, 9) for step in range(100)]


@pytest.mark.soak
def test_racing_upserts_leave_one_row_a_key() -> None:
    Dataset.from_dict({"id": [0], "by": [0]}).save("keyed")
    finish([start(UPSERTS, me, 10) for me in range(4)])
    assert sorted(values("keyed", "id")) == list(range(14))


def test_a_killed_writer_leaves_the_table_whole(servers: Stack, name: str) -> None:
    Dataset.from_dict({"x": [-1]}).save("numbers")
    for after in (0.0, 0.02, 0.05):
        writer = start(APPENDS, 0, 10_000)
        assert writer.stdout is not None
        writer.stdout.readline()
        before = len(values("numbers", "x"))
        time.sleep(after)
        writer.send_signal(signal.SIGKILL)
        acknowledged = before + sum(1 for line in writer.communicate()[0].split("\n") if line)
        landed = values("numbers", "x")
        assert acknowledged <= len(landed) + 1
        assert len(landed) == Dataset("numbers").list_versions()[0].total_records
    assert servers.store.keys(f"{name}/warehouse/")
    assert BUCKET in Lake.current().table("numbers").metadata.location
