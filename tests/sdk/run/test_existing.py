"""``save(if_exists=…)``: a cell of a notebook that is run twice, and processes that save first at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakefeed import Dataset, Fence, Provenance
from lakefeed.compute import save as save_with
from lakefeed.compute.compute_engine import run_task
from lakefeed.errors import (
    CommitConflictError,
    DatasetExistsError,
    DatasetNotFoundError,
    FenceError,
    InvalidArgumentError,
    SchemaError,
)
from tests.sdk.processes import Program, finish_all

Save = Callable[..., Dataset]
SCHEMA = pa.schema({"x": pa.int64()})


def plain(rows: Dataset, name: str, **how: Any) -> Dataset:
    return rows.save(name, **how)


def distributed(rows: Dataset, name: str, **how: Any) -> Dataset:
    return save_with(rows, name, Inline(), **how)


class Inline:
    """An engine that works in this very process."""

    width = 2

    def run(self, pieces: Sequence[bytes]) -> Iterator[tuple[int, Any]]:
        return ((place, run_task(piece)) for place, piece in enumerate(pieces))


def rows(*values: int) -> Dataset:
    return Dataset.from_dict({"x": list(values)})


def xs() -> list[int]:
    return Dataset("t").to_arrow()["x"].to_pylist()


@pytest.fixture(params=[plain, distributed])
def save(request: pytest.FixtureRequest) -> Save:
    found: Save = request.param
    return found


def test_a_save_adds_or_replaces_or_refuses_as_it_is_told(save: Save) -> None:
    for _ in range(2):
        appended = save(rows(1), "t", if_exists="append", provenance=Provenance(code="cell 1"))
    assert (appended.version, xs()) == (2, [1, 1])
    assert [version.code for version in appended.list_versions()] == ["cell 1", "cell 1"]
    assert save(rows(7), "t", if_exists="new_version").version == 3
    assert (xs(), Dataset("t", version=2).count()) == ([7], 2)
    assert Dataset("t").removed_since(2).to_arrow()["x"].to_pylist() == [1, 1]
    with pytest.raises(DatasetExistsError, match=r'if_exists="append".*if_exists="new_version"'):
        save(rows(8), "t")
    with pytest.raises(DatasetExistsError):
        save(rows(8), "t", if_exists="error", idempotency_key="other")
    assert save(rows(5), "new", if_exists="new_version", description="made").version == 1
    assert save(rows(5), "new", if_exists="new_version", description="unheard").description == "made"
    for wrong in ("replace", None, True, ["append"]):
        with pytest.raises(InvalidArgumentError, match="if_exists"):
            save(rows(1), "t", if_exists=wrong)
    with pytest.raises(SchemaError):
        save(Dataset.from_dict({"y": ["a"]}), "t", if_exists="append")


def test_a_key_lands_once_whichever_way_it_is_saved(save: Save) -> None:
    for how in ("append", "new_version", "error"):
        assert save(rows(1), "t", if_exists=how, idempotency_key="k").version == 1
    assert save(rows(2), "t", if_exists="append", idempotency_key="l").version == 2
    assert save(rows(3), "t", if_exists="new_version", idempotency_key="m").version == 3
    assert save(rows(3), "t", if_exists="append", idempotency_key="m").version == 3
    assert xs() == [3]


def test_a_fence_holds_whichever_way_it_is_saved(save: Save) -> None:
    for how in ("append", "new_version"):
        with pytest.raises(FenceError):
            save(rows(1), "t", if_exists=how, fence=Fence("f", "0", "1"))
        assert not Dataset.exists("t")
    save(rows(1), "t", if_exists="append", fence=Fence("f", None, "1"))
    for how in ("append", "new_version"):
        with pytest.raises(FenceError):
            save(rows(2), "t", if_exists=how, fence=Fence("f", None, "1"))
    save(rows(2), "t", if_exists="append", fence=Fence("f", "1", "2"))
    save(rows(3), "t", if_exists="new_version", fence=Fence("f", "2", "3"))
    assert (xs(), Dataset("t").version) == ([3], 3)


def meanwhile(*acts: Callable[[], object]) -> Dataset:
    """A row, and whatever others do while it is read: each time that it is, the next of them."""
    todo = list(acts)

    def batches() -> Iterator[pa.RecordBatch]:
        if todo:
            todo.pop(0)()
        yield pa.record_batch({"x": [1]})

    return Dataset.from_batches(batches, schema=SCHEMA)


def test_rows_land_whatever_others_make_and_delete_meanwhile() -> None:
    meanwhile(lambda: rows(9).save("t")).save("t", if_exists="append")
    assert xs() == [9, 1]
    Dataset("t").delete()
    meanwhile(lambda: rows(9).save("t")).save("t", if_exists="new_version")
    assert xs() == [1]
    meanwhile(lambda: Dataset("t").delete()).save("t", if_exists="append")
    assert (xs(), Dataset("t").version) == ([1], 5)
    meanwhile(lambda: Dataset("t").delete(), lambda: rows(9).save("t")).save("t", if_exists="append")
    assert xs() == [9, 1]
    with pytest.raises(DatasetExistsError):
        meanwhile(lambda: rows(9).save("u")).save("u")
    with pytest.raises(DatasetNotFoundError):
        meanwhile(lambda: Dataset("missing").to_arrow()).save("t", if_exists="append")


def test_rows_that_are_made_of_the_dataset_itself_do_not_take_others_away() -> None:
    rows(1, 2).save("t")
    doubled = Dataset("t").with_column("x", "x * 2")
    assert doubled.save("t", if_exists="new_version").to_arrow()["x"].to_pylist() == [2, 4]
    with pytest.raises(CommitConflictError):
        doubled.save("t", if_exists="new_version")
    assert Dataset("t").save("t", if_exists="append").count() == 4


def test_processes_that_save_first_at_once_all_land(tmp_path: Path) -> None:
    program = """
        import sys, time
        from pathlib import Path
        from lakefeed import Dataset
        me, folder = sys.argv[1], Path(sys.argv[2])
        (folder / me).touch()
        while not all((folder / other).exists() for other in "01"):
            time.sleep(0.001)
        for row in range(3):
            Dataset.from_dict({"x": [int(me) * 10 + row]}).save("t", if_exists="append")
    """
    finish_all([Program(program, me, tmp_path) for me in "01"])
    assert sorted(xs()) == [0, 1, 2, 10, 11, 12]
