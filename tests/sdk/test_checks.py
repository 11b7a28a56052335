"""Checks of versions, each on what it is for."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from lakefeed import Dataset
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
from lakefeed.errors import InvalidArgumentError, TransformError
from lakefeed.profiles import Profile, profile

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
        (HasSchema(pa.schema({"id": pa.int64()})), "a column 'x' too many"),
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
    check_names([NotNull("a", name="a"), NotNull("b", name="b")])
    with pytest.raises(InvalidArgumentError, match="'nulls'"):
        check_names([NotNull("a"), NotNull("b")])
    with pytest.raises(InvalidArgumentError, match="is no check"):
        check_names(["nulls"])


def test_a_custom_check_answers(found: Profile) -> None:
    with pytest.raises(TransformError, match="returned a int"):
        Custom("c", lambda rows: 3).check(found)
