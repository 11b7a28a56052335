"""Row M51: a Dataset prints usefully, in a shell and in a notebook."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from lakefeed import Dataset


def test_repr_names_version_rows_and_columns() -> None:
    Dataset.from_dict({"x": [1, 2], "s": ["a", "b"]}).save("small")
    assert repr(Dataset("small")) == "Dataset('small', version=1): 2 rows, x: int64, s: string"
    assert repr(Dataset("small").head(1)) == "Dataset(): 1 rows, x: int64, s: string"
    assert repr(Dataset("small").filter("x > 1")).startswith("Dataset(): ? rows")


def test_repr_of_what_is_not_there_is_no_error() -> None:
    assert repr(Dataset("missing", version=3)) == "Dataset('missing', version=3)"


def test_a_notebook_shows_a_preview_with_thumbnails(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    shown = Dataset.from_dict({"photo": [str(tmp_path / "red.png")], "t": ["<b>"]}).save("shown")._repr_html_()
    assert "data:image/" in shown
    assert "&lt;b&gt;" in shown
    assert "<b></td>" not in shown


def test_wide_and_long_values_are_cut() -> None:
    wide = Dataset.from_dict({f"c{n}": ["y" * 500] for n in range(30)})
    assert "10 more columns" in wide._repr_html_()
    assert "y" * 100 not in wide._repr_html_()
    assert "… 24 more" in repr(wide)
