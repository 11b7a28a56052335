"""Thumbnails for notebook pages."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import PIL.Image

PIXELS = 128


def thumbnail_html(picture: PIL.Image.Image, label: str) -> str:
    """Returns an HTML element with the thumbnail of ``picture``, which is scaled down in place."""
    picture.thumbnail((PIXELS, PIXELS))
    if picture.mode not in {"L", "LA", "RGB", "RGBA", "P", "1"}:
        picture = picture.convert("RGB")
    small = io.BytesIO()
    picture.save(small, "PNG")
    text = html.escape(label, quote=True)
    return f'<img src="{data_url("image/png", small.getvalue())}" alt="{text}" title="{text}">'


def data_url(content_type: str, content: bytes) -> str:
    """Returns the bytes as a data URL.

    Example:
        >>> data_url("text/plain", b"hi")
        'data:text/plain;base64,aGk='
    """
    return f"data:{content_type};base64,{base64.b64encode(content).decode()}"
