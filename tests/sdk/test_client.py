"""What is in the lake, from the outside."""

from __future__ import annotations

import pytest

import lakefeed
from lakefeed import Dataset, get_dataset, list_datasets
from lakefeed.errors import DatasetNotFoundError, InvalidArgumentError, VersionNotFoundError


def test_an_empty_lake() -> None:
    assert list_datasets() == []
    with pytest.raises(DatasetNotFoundError, match=r"\(none\)"):
        get_dataset("t")


def test_datasets_by_name_follow_their_versions() -> None:
    for name in ("b", "a", "team.c"):
        Dataset.from_dict({"x": [1]}).save(name)
    found = list_datasets()
    assert [dataset.name for dataset in found] == ["a", "b", "team.c"]
    Dataset.from_dict({"x": [2]}).append_to("a")
    assert [len(dataset) for dataset in found] == [2, 1, 1]


def test_one_of_them_at_a_version() -> None:
    Dataset.from_dict({"x": [1]}).save("t")
    Dataset.from_dict({"x": [2]}).append_to("t")
    assert (len(get_dataset("t", version=1)), len(get_dataset("t"))) == (1, 2)
    with pytest.raises(VersionNotFoundError, match="'2', '1'"):
        get_dataset("t", version=3)
    with pytest.raises(InvalidArgumentError):
        get_dataset("t", version=0)


def test_the_public_names_are_sorted_and_there() -> None:
    assert sorted(lakefeed.__all__) == lakefeed.__all__
    assert all(hasattr(lakefeed, name) for name in lakefeed.__all__)
