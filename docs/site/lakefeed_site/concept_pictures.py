"""Draws the pictures of the page on concepts from real runs: ``python -m lakefeed_site.concept_pictures FOLDER``."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

import lakefeed
from lakefeed import Dataset, World

SCALE = 2
INK, GREY, PAPER = "#222222", "#999999", "#ffffff"
COLORS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#9ecae9", "#ffbf79", "#88d27a")
ROWS, ROW_GROUP_ROWS, WINDOW = 4096, 64, 512


def draw_all(folder: Path) -> None:
    """Writes ``order.png``, ``resume.png`` and ``versions.png`` into a folder.

    Args:
        folder: the folder of the pictures.
    """
    with tempfile.TemporaryDirectory() as home:
        os.environ["LAKEFEED_HOME"] = home
        os.environ["LAKEFEED__WRITE__ROW_GROUP_ROWS"] = str(ROW_GROUP_ROWS)
        _save(_order_picture(), folder / "order.png")
        _save(_resume_picture(), folder / "resume.png")
        _save(_versions_picture(), folder / "versions.png")


def _order_picture() -> Image.Image:
    """Returns three scatter plots: the row at each position of an epoch."""
    rows = Dataset.from_dict({"id": range(ROWS)}).save("order")
    orders = {
        "in order": rows,
        f"shuffle(seed, global_=False, window={WINDOW})": rows.shuffle(seed=1, global_=False, window=WINDOW),
        "shuffle(seed)": rows.shuffle(seed=1),
    }
    side, gap = 256, 40
    picture, draw = _canvas(3 * side + 4 * gap, side + 2 * gap + 10)
    for number, (title, dataset) in enumerate(orders.items()):
        left, top = gap + number * (side + gap), gap
        _text(draw, left, top - 22, title)
        draw.rectangle(_scaled(left, top, left + side, top + side), outline=GREY)
        for position, row in enumerate(_ids(dataset)):
            x, y = left + position * side / ROWS, top + side - row * side / ROWS
            draw.ellipse(_scaled(x - 0.7, y - 0.7, x + 0.7, y + 0.7), fill=COLORS[0])
        _text(draw, left, top + side + 6, "across: position in the epoch; up: row", GREY)
    return picture


def _resume_picture() -> Image.Image:
    """Returns the rows of an epoch in its order, coloured by the rank that got them before and after a resume."""
    rows = Dataset.from_dict({"id": range(96)}).save("resume").shuffle(seed=5)
    position = {row: number for number, row in enumerate(_ids(rows))}
    owner: dict[int, tuple[int, str]] = {}
    state: dict[str, Any] = {}
    for rank in range(4):
        loader = rows.to_torch(batch_size=4, world=World(rank=rank, world_size=4))
        batches = iter(loader)
        for _ in range(3):
            owner |= dict.fromkeys(next(batches)["id"].tolist(), (rank, "4 ranks, 3 steps of 4 rows"))
        state = loader.state_dict()
    for rank in range(3):
        loader = rows.to_torch(batch_size=6, world=World(rank=rank, world_size=3))
        loader.load_state_dict(state)
        owner |= {row: (4 + rank, "3 ranks, batches of 6") for batch in loader for row in batch["id"].tolist()}
    assert len(owner) == 96
    cell, left, top = 24, 24, 56
    picture, draw = _canvas(24 * cell + 2 * left, 4 * cell + top + 40)
    _text(draw, left, 14, "The 96 rows of an epoch in its order; the colour is the rank that got a row. The job stops,")
    _text(draw, left, 32, "and goes on with other ranks: no row is missing, none comes twice.")
    for row, (color, _) in owner.items():
        x, y = left + position[row] % 24 * cell, top + position[row] // 24 * cell
        draw.rectangle(_scaled(x, y, x + cell - 2, y + cell - 2), fill=COLORS[color])
        _text(draw, x + 3, y + 4, str(row), PAPER, 10)
    _legend(
        draw, left, top + 4 * cell + 12, [(COLORS[:4], "ranks 0 to 3, before"), (COLORS[4:], "ranks 0 to 2, after")]
    )
    return picture


def _versions_picture() -> Image.Image:
    """Returns which files each version of a dataset consists of."""
    Dataset.from_dict({"id": range(1000), "x": [0.5] * 1000}).save("versions")
    Dataset.from_dict({"id": range(1000, 1500), "x": [0.7] * 500}).append_to("versions")
    Dataset("versions").delete_rows("id < 50")
    Dataset.from_dict({"id": range(1490, 1510), "x": [0.9] * 20}).upsert_into("versions", keys="id")
    Dataset("versions").restore(2)
    titles = ["save", "append_to", "delete_rows", "upsert_into", "restore(2)"]
    table = lakefeed.connect().catalog().load_table("default.versions")
    versions = {snapshot.sequence_number or 0: snapshot.snapshot_id for snapshot in table.snapshots()}
    data: list[str] = []
    deletes: list[str] = []
    contents: dict[int, set[str]] = {}
    for number, snapshot_id in sorted(versions.items()):
        tasks = list(table.scan(snapshot_id=snapshot_id).plan_files())
        contents[number] = {task.file.file_path for task in tasks}
        contents[number] |= {file.file_path for task in tasks for file in task.delete_files}
        data += _new(data, (task.file.file_path for task in tasks))
        deletes += _new(deletes, (file.file_path for task in tasks for file in task.delete_files))
    cell, left, top = 52, 190, 40
    columns = data + deletes
    picture, draw = _canvas(left + len(columns) * cell + 200, top + len(contents) * 34 + 50)
    for number in range(len(columns)):
        _text(draw, left + number * cell, top - 22, f"file {number + 1}", GREY)
    for line, (number, files) in enumerate(sorted(contents.items())):
        y = top + line * 34
        rows = len(Dataset("versions", version=number))
        _text(draw, 20, y + 5, f"version {number}: {titles[line]}")
        _text(draw, left + len(columns) * cell + 12, y + 5, f"{rows} rows", GREY)
        for place, path in enumerate(columns):
            x = left + place * cell
            fill = None if path not in files else COLORS[0] if path in data else COLORS[1]
            draw.rectangle(_scaled(x, y, x + cell - 10, y + 24), fill=fill, outline=GREY)
    _legend(draw, 20, top + len(contents) * 34 + 14, [(COLORS[:1], "data file"), (COLORS[1:2], "file of removed rows")])
    return picture


def _ids(rows: Dataset) -> list[int]:
    return [row["id"] for row in rows]


def _new(names: Sequence[str], others: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys(others) if name not in names]


def _canvas(width: float, height: float) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGB", (round(width * SCALE), round(height * SCALE)), PAPER)
    return picture, ImageDraw.Draw(picture)


def _text(draw: ImageDraw.ImageDraw, x: float, y: float, text: str, color: str = INK, size: int = 12) -> None:
    draw.text((x * SCALE, y * SCALE), text, fill=color, font=ImageFont.load_default(size * SCALE))


def _legend(draw: ImageDraw.ImageDraw, x: float, y: float, entries: Iterable[tuple[Sequence[str], str]]) -> None:
    for colors, text in entries:
        for color in colors:
            draw.rectangle(_scaled(x, y, x + 12, y + 12), fill=color)
            x += 16
        _text(draw, x + 2, y - 1, text)
        x += 200


def _scaled(*numbers: float) -> tuple[float, ...]:
    return tuple(number * SCALE for number in numbers)


def _save(picture: Image.Image, path: Path) -> None:
    picture.quantize(64).save(path, optimize=True)


if __name__ == "__main__":
    draw_all(Path(sys.argv[1]))
