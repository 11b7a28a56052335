"""Cells of the Markdown tables on the page of a version: short texts and thumbnails."""

from __future__ import annotations

import base64
import io
from typing import Any

import PIL.Image

from lakefeed import Image, Video
from lakefeed.errors import FormatError, LakefeedError

THUMBNAIL_PIXELS = 48
CELL_CHARACTERS = 60


def preview_cell(value: Any) -> str:
    """Returns a value as one line that fits into a cell. Images and videos are thumbnails."""
    if value is None:
        return ""
    if isinstance(value, Image | Video):
        return thumbnail(value)
    text = f"{value:.6g}" if isinstance(value, float) else str(value).replace("|", "\\|").replace("\n", " ")
    return text if len(text) <= CELL_CHARACTERS else text[: CELL_CHARACTERS - 1] + "…"


def thumbnail(cell: Image | Video) -> str:
    """Returns a scaled image, or a video's first frame, in Markdown. Unreadable files are reported by a check."""
    try:
        picture = _picture(cell)
    except (LakefeedError, OSError) as error:  # missing, changed, broken, or no library to read it
        return f"({type(error).__name__})"
    scale = THUMBNAIL_PIXELS / max(picture.size)
    # Whole pixels of a tiny image stay visible: no smoothing when it is enlarged.
    shown = picture.resize([max(1, round(side * scale)) for side in picture.size], resample=0 if scale > 1 else None)
    sink = io.BytesIO()
    shown.save(sink, format="PNG")
    return f"![](data:image/png;base64,{base64.b64encode(sink.getvalue()).decode()})"


def _picture(cell: Image | Video) -> PIL.Image.Image:
    if isinstance(cell, Image):
        return cell.pil().convert("RGB")
    for frame in cell.frames(stop=1):
        return PIL.Image.fromarray(frame)
    raise FormatError(f"{cell!r} has no frames")
