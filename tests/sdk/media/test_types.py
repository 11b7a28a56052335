"""M46 and M50: columns that are said to hold files, before anything is saved and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakefeed import Dataset, File, Image
from lakefeed.errors import ColumnNotFoundError, InvalidArgumentError, MissingFileError, TypeMismatchError
from tests.sdk.media.pictures import write

ROWS = 12


@pytest.fixture
def table(tmp_path: Path) -> pa.Table:
    """Pictures, of which one cell is null and another names a file that is gone."""
    paths = [str(write(tmp_path / f"{n}.png")) for n in range(ROWS)]
    Path(paths[-1]).unlink()
    return pa.table({"n": range(ROWS), "p": [None, *paths[1:]], "q": paths[:1] * ROWS})


@pytest.fixture(params=["memory", "batches", "saved", "appended"])
def origin(request: pytest.FixtureRequest, table: pa.Table, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", "3")
    if request.param == "memory":
        return Dataset.from_arrow(table)
    if request.param == "batches":
        return Dataset.from_batches(lambda: table.to_batches(max_chunksize=5), schema=table.schema)
    first = ROWS if request.param == "saved" else 4
    Dataset.from_arrow(table.slice(0, first)).save("rows", column_types=None)
    if request.param == "appended":
        Dataset.from_arrow(table.slice(first)).append_to("rows")
    return Dataset("rows")


def test_a_type_that_is_said_is_exact_and_touches_no_file(origin: Dataset) -> None:
    typed = origin.with_column_types({"p": Image})
    assert (origin.column_types, typed.column_types) == ({}, {"p": "image"})
    assert typed.count() == ROWS
    cells = [row["p"] for row in typed]  # handles, also of the file that is gone
    assert [type(cell) for cell in cells] == [type(None), *[Image] * (ROWS - 1)]
    assert cells[1].pil().size
    with pytest.raises(MissingFileError, match=r"11\.png"):
        cells[-1].bytes()
    assert [row["q"] for row in typed] == [row["q"] for row in origin]


def test_auto_looks_at_a_sample_and_leaves_what_has_a_type(origin: Dataset) -> None:
    there = origin.filter("n < 11")
    assert there.with_column_types().column_types == {"p": "image", "q": "image"}
    pinned = there.with_column_types({"p": "file"})
    assert pinned.with_column_types("auto").column_types == {"p": "file", "q": "image"}
    assert pinned.save("pinned").column_types == {"p": "file", "q": "image"}
    assert pinned.save("exact", column_types={"q": "file"}).column_types == {"p": "file", "q": "file"}
    assert pinned.save("none", column_types=None).column_types == {"p": "file"}


def test_types_go_with_what_is_derived_and_change_again(origin: Dataset) -> None:
    typed = origin.with_column_types({"p": "file"}).filter("n > 0 and n < 11").select(["p", "n"]).skip(1)
    assert [type(row["p"]) for row in typed] == [File] * 9
    again = typed.with_column_types({"p": Image})
    assert [type(row["p"]) for row in again] == [Image] * 9
    assert again.load_files("bytes").to_arrow()["p"].to_pylist() == [row["p"].bytes() for row in typed]
    assert typed.with_column_types({}).column_types == {"p": "file"}
    saved = again.save("again")
    assert saved.filter("p.width > 0").count() == 9


@pytest.mark.parametrize(
    ("types", "error"),
    [
        ({"n": "image"}, TypeMismatchError),
        ({"pp": "image"}, ColumnNotFoundError),
        ({"p": "picture"}, InvalidArgumentError),
        ({"p": None}, InvalidArgumentError),
        ({"p": 5}, InvalidArgumentError),
        ("image", InvalidArgumentError),
    ],
)
def test_what_is_no_type_is_told_at_the_call(origin: Dataset, types: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        origin.with_column_types(types)


@pytest.mark.parametrize("appended", [False, True])
def test_types_of_what_is_saved_change_without_a_version(table: pa.Table, appended: bool) -> None:
    Dataset.from_arrow(table.slice(0, 5)).save("rows", column_types=None)
    if appended:
        Dataset.from_arrow(table.slice(5, 6)).append_to("rows")
    before = Dataset("rows")
    version, rows = before.version, before.to_arrow()
    assert before.set_column_types({"p": Image}) is None  # type: ignore[func-returns-value]
    now = Dataset("rows")
    assert (now.column_types, now.version, now.to_arrow()) == ({"p": "image"}, version, rows)
    assert [type(row["p"]) for row in now.filter("n > 0")] == [Image] * (rows.num_rows - 1)
    facts = now.update(description="pictures", column_types={"p": "file", "q": "file"})
    assert (facts["description"], facts["column_types"]) == ("pictures", {"p": "file", "q": "file"})
    assert (Dataset("rows").description, Dataset("rows").version) == ("pictures", version)
    assert now.update()["description"] == "pictures"
    with pytest.raises(TypeMismatchError):
        now.set_column_types({"n": "image"})
    assert Dataset("rows").column_types == {"p": "file", "q": "file"}
