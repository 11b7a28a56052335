"""Deliveries that are rows themselves, such as images in folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lakefeed.dataset import Dataset
from lakefeed.sources.folder_files import check_label_rule, files_table


@dataclass(frozen=True)
class FileAsRow:
    """For ``read=`` of a source of files: each file is one row, with the columns of `Dataset.from_folder`.

    Args:
        label: "parent" adds a column ``label`` with the name of the folder of the file.

    Example:
        >>> source = FolderSource("photos", "photos", "/data/photos", "*/*.png", read=FileAsRow("parent"))
        >>> Path("cats").mkdir()
        >>> _ = Path("cats/1.png").write_bytes(b"")
        >>> source.read(Path("cats/1.png").absolute()).to_arrow()["label"].to_pylist()
        ['cats']
    """

    label: Literal["parent"] | None = None

    def __post_init__(self) -> None:
        check_label_rule(self.label)

    def __call__(self, path: Path | str) -> Dataset:
        """Returns the row of a file."""
        parent = str(path).rstrip("/").rpartition("/")[0].rpartition("/")[2]
        return Dataset.from_arrow(files_table([str(path)], [parent] if self.label == "parent" else None))
