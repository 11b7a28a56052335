"""Tags: names for versions that do not move by themselves."""

from __future__ import annotations

import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.catalog import Lake, append, create, resolve, tag, tags, untag
from lakefeed.errors import (
    InvalidArgumentError,
    InvalidNameError,
    TagExistsError,
    TagNotFoundError,
    VersionNotFoundError,
)

SCHEMA = pa.schema([("x", pa.int64())])


@pytest.fixture
def grown(lake: Lake) -> Lake:
    """Three versions of dataset ``t``."""
    create(lake, "t", SCHEMA, [])
    for value in (2, 3):
        append(lake, "t", [pa.record_batch({"x": [value]})], schema=SCHEMA)
    return lake


def test_a_tag_stands_for_a_version(grown: Lake) -> None:
    assert tag(grown, "t", "stable", 2, move=False) == 2
    assert tag(grown, "t", "latest.1", None, move=False) == 3
    assert tags(grown.table("t")) == {"latest.1": 3, "stable": 2}
    assert resolve(grown.table("t"), "stable").version == 2
    assert grown.table("t").refs()["stable"].snapshot_ref_type == "tag"


def test_a_tag_does_not_move_by_itself(grown: Lake) -> None:
    tag(grown, "t", "stable", 2, move=False)
    assert tag(grown, "t", "stable", 2, move=False) == 2
    with pytest.raises(TagExistsError, match=r"'stable' of 't' names version 2; .* move=True"):
        tag(grown, "t", "stable", 3, move=False)
    assert tags(grown.table("t")) == {"stable": 2}
    assert tag(grown, "t", "stable", 3, move=True) == 3
    assert tags(grown.table("t")) == {"stable": 3}


def test_a_tag_may_be_given_by_another(grown: Lake) -> None:
    tag(grown, "t", "good", 1, move=False)
    assert tag(grown, "t", "better", "good", move=False) == 1


def test_tags_make_no_version(grown: Lake) -> None:
    tag(grown, "t", "stable", 2, move=False)
    untag(grown, "t", "stable")
    assert resolve(grown.table("t")).version == 3
    assert tags(grown.table("t")) == {}


def test_appends_do_not_move_tags(grown: Lake) -> None:
    tag(grown, "t", "stable", None, move=False)
    append(grown, "t", [pa.record_batch({"x": [4]})], schema=SCHEMA)
    assert tags(grown.table("t")) == {"stable": 3}


def test_unknown_tags(grown: Lake) -> None:
    tag(grown, "t", "stable", 2, move=False)
    with pytest.raises(TagNotFoundError, match="no tag 'other'; the tags are 'stable'"):
        resolve(grown.table("t"), "other")
    with pytest.raises(TagNotFoundError, match="no tag 'other'"):
        untag(grown, "t", "other")
    with pytest.raises(VersionNotFoundError, match="no version 9"):
        tag(grown, "t", "new", 9, move=False)


@pytest.mark.parametrize("name", ["", "main", "v3", "3", "-a", "a b", "a" * 64, None, 7])
def test_names_that_cannot_be(grown: Lake, name: str) -> None:
    with pytest.raises(InvalidNameError, match="invalid tag"):
        tag(grown, "t", name, 1, move=False)


def test_a_branch_is_no_tag(grown: Lake) -> None:
    first = resolve(grown.table("t"), 1).snapshot_id
    grown.table("t").manage_snapshots().create_branch(first, "side").commit()
    assert tags(grown.table("t")) == {}
    with pytest.raises(TagExistsError, match="'side' is a branch"):
        tag(grown, "t", "side", 1, move=True)
    with pytest.raises(TagNotFoundError, match="'side' is a branch"):
        resolve(grown.table("t"), "side")
    assert (Dataset("t").metadata["branches"], Dataset("t").metadata["tags"]) == ({"side": 1}, {})


@pytest.mark.parametrize("name", ["release 1.0", "2026-01-31", "_x", "größe", "a" * 100, "a/b"])
def test_tags_of_other_clients_are_read_and_removed(grown: Lake, name: str) -> None:
    second = resolve(grown.table("t"), 2).snapshot_id
    grown.table("t").manage_snapshots().create_tag(second, name).commit()
    assert tags(grown.table("t")) == {name: 2}
    assert len(Dataset("t", version=name)) == 1
    Dataset("t").untag(name)
    assert tags(grown.table("t")) == {}


@pytest.mark.parametrize("name", ["v7", "7"])
def test_a_tag_that_reads_like_a_version_is_removed_but_not_read(grown: Lake, name: str) -> None:
    grown.table("t").manage_snapshots().create_tag(resolve(grown.table("t"), 2).snapshot_id, name).commit()
    assert tags(grown.table("t")) == {name: 2}
    with pytest.raises(InvalidArgumentError, match="positive integer"):
        Dataset("t", version=name)
    untag(grown, "t", name)
    assert tags(grown.table("t")) == {}
