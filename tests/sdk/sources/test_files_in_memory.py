"""Paths, images of Pillow and handles among rows in memory: they make file columns, and rows can be saved again."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import PIL.Image
import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.errors import SchemaError


@pytest.fixture
def picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PIL.Image.Image:
    monkeypatch.chdir(tmp_path)
    image = PIL.Image.new("RGB", (4, 3), "red")
    image.save("cat.png")
    return image


def test_paths_and_images_make_file_columns(picture: PIL.Image.Image) -> None:
    columns = {"path": [Path("cat.png"), None], "image": [picture, PIL.Image.new("CMYK", (5, 2))]}
    made = {"columns": Dataset.from_dict(columns), "frame": Dataset.from_pandas(pd.DataFrame(columns))}
    for name, dataset in made.items():
        saved = dataset.save(name)
        assert saved.column_types == {"path": "image", "image": "image"}
        first, second = list(saved)
        assert (first["path"].filename, second["path"]) == ("cat.png", None)
        assert (first["image"].width, second["image"].width) == (4, 5)
        assert first["image"].pil().getpixel((0, 0)) == (255, 0, 0)
        assert "path: image, image: image" in repr(saved)
    schema = pa.schema({"path": pa.string()})
    assert Dataset.from_dict({"path": [Path("a"), "b"]}, schema=schema).to_arrow()["path"].to_pylist() == ["a", "b"]


def test_rows_that_were_read_can_be_saved_again(picture: PIL.Image.Image) -> None:
    saved = Dataset.from_dict({"id": [1, 2], "photo": ["cat.png", None]}).save("read")
    again = Dataset.from_pylist(list(saved)).save("again")
    assert again.to_arrow().equals(saved.to_arrow())
    Dataset.from_pylist([{"id": 3, "photo": next(iter(saved))["photo"]}]).append_to("again")
    assert Dataset("again").to_arrow()["photo"].to_pylist()[2] == saved.to_arrow()["photo"].to_pylist()[0]
    unsaved = list(Dataset.from_dict({"photo": [picture]}))
    assert next(iter(Dataset.from_pylist(unsaved).save("fresh")))["photo"].width == 4
    with pytest.raises(SchemaError, match=r"photo.*either all references or all con"):
        Dataset.from_dict({"photo": [next(iter(saved))["photo"], "cat.png"]})


def test_numbers_beside_nulls_within_values_stay_what_they_are() -> None:
    rows = {"list": [[1, None], [2**60 + 1]], "struct": [{"a": 1}, {"a": None}], "flags": [[True], [None]]}
    assert Dataset.from_dict(rows).to_pandas().to_dict("list") == rows
