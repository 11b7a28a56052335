"""Facts of trees that change after they are final: tags, metadata, and reports with bounded previews."""

from __future__ import annotations

import datetime as dt
import io
import math
from pathlib import Path
from typing import Any

import pandas as pd
import PIL.Image
import pytest

from lakefeed import collect_garbage
from lakefeed.catalog.lake import Lake
from lakefeed.errors import InvalidArgumentError, MissingFileError, TreeNotFoundError
from lakefeed.trees import FileTree, tree_logger
from tests.sdk.trees.test_file_trees import fill, finished


def test_tags_and_metadata_change_after_the_version_is_made(home: Path, tmp_path: Path) -> None:
    draft = FileTree.create("photos", "animals", dataset_tags=["raw"])
    other = FileTree.get(draft.id)
    draft.add_tags("draft")
    assert other.finalize()
    assert other.tags == ["raw", "draft"]
    tree = FileTree.get(draft.id)
    tree.add_tags(["checked", "raw"])
    tree.remove_tags(["draft", "absent"])
    assert tree.tags == FileTree.get(tree.id).tags == ["raw", "checked"]
    assert FileTree.get(dataset_project="animals", dataset_tags=["checked"]) == tree
    with pytest.raises(TreeNotFoundError):
        FileTree.get(dataset_project="animals", dataset_tags=["draft"])
    tree.tags = []
    assert FileTree.list_datasets()[0]["tags"] == []
    for wrong in (7, [7], [""], ["a\n"]):
        with pytest.raises(InvalidArgumentError):
            tree.add_tags(wrong)  # type: ignore[arg-type]
    assert tree.get_metadata() is None
    tree.set_metadata({"source": "zoo", "n": [1, None]})
    tree.set_metadata(pd.DataFrame({"a": [1, 2]}), "frame")
    tree.set_metadata({"source": "park"})
    assert (tree.get_metadata(), FileTree.get(tree.id).get_metadata("frame")) == ({"source": "park"}, {"a": [1, 2]})
    for wrong in ({"a": math.nan}, {"a": object()}, {1: b""}):
        with pytest.raises(InvalidArgumentError):
            tree.set_metadata(wrong)


def test_reports_have_bounded_previews(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_logger, "MAX_MEDIA", 3)
    tree = finished(fill(tmp_path / "f", {"a": "A"}))
    log = tree.get_logger()
    picture = PIL.Image.new("RGB", (4, 4), "red")
    picture.save(tmp_path / "red.png")
    log.report_text("it begins", print_console=False)
    log.report_scalar("loss", "train", 0.5, 3)
    log.report_histogram("sizes", "all", [1, 2, 3], 0)
    log.report_table("rows", "first", table_plot=pd.DataFrame({"x": range(50), "y": [math.nan] * 50}))
    log.report_image("pictures", "red", local_path=tmp_path / "red.png")
    log.report_image("pictures", "red", 1, image=picture)
    for number in range(2):
        log.report_media("sounds", "s", number, stream=io.BytesIO(b"bytes"), file_extension="wav")
    assert collect_garbage(dry_run=False, grace=dt.timedelta(0)).blobs == 0
    rows: list[dict[str, Any]] = FileTree.get(tree.id).get_logger().reports()
    assert [row["kind"] for row in rows[:6]] == ["text", "scalar", "histogram", "table", "image", "image"]
    assert (rows[1]["value"], rows[1]["iteration"], rows[1]["series"]) == (0.5, 3, "train")
    assert '"total": 50' in rows[3]["text"]
    assert rows[3]["text"].count("null") == 10
    assert [row["file"] is not None for row in rows[4:]] == [True] * 3 + [False]
    assert Lake.current().blobs.read(rows[4]["file"]["sha256"]) == (tmp_path / "red.png").read_bytes()
    assert rows[6]["file"]["filename"] == "media.wav"
    (tmp_path / "large").write_bytes(b"x" * (6 << 20))
    for call, error in (
        (lambda: log.report_text(7), InvalidArgumentError),  # type: ignore[arg-type]
        (lambda: log.report_scalar("a", "b", "c", 1), InvalidArgumentError),  # type: ignore[arg-type]
        (lambda: log.report_scalar("a", "b", 1, "c"), InvalidArgumentError),  # type: ignore[arg-type]
        (lambda: log.report_histogram("a", "b", [math.nan]), InvalidArgumentError),
        (lambda: log.report_table("a", "b"), InvalidArgumentError),
        (lambda: log.report_table("a", "b", table_plot=7), InvalidArgumentError),
        (lambda: log.report_image("a", "b"), InvalidArgumentError),
        (lambda: log.report_image("a", "b", image=7), InvalidArgumentError),
        (lambda: log.report_media("a", "b", local_path=tmp_path / "large"), InvalidArgumentError),
        (lambda: log.report_media("a", "b", local_path=tmp_path / "absent"), MissingFileError),
    ):
        with pytest.raises(error):
            call()
    assert len(log.reports()) == len(rows)
    FileTree.delete(dataset_project="animals", dataset_name="photos", entire_dataset=True)
    assert log.reports() == []
