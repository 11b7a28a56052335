"""Real images, whole and hostile."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image

WIDTH, HEIGHT = 12, 7


def pixels(mode: str = "RGB") -> PIL.Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return PIL.Image.fromarray(noise).convert(mode)


def encoded(format_name: str = "PNG", mode: str = "RGB") -> bytes:
    target = io.BytesIO()
    pixels(mode).save(target, format_name)
    return target.getvalue()


def write(path: Path, data: bytes | None = None) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded() if data is None else data)
    return str(path)


def _bomb() -> bytes:
    """A valid PNG of a few bytes that declares 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def with_thumbnail() -> bytes:
    """A JPEG whose header holds another whole JPEG, as cameras write them."""
    inner, outer = encoded("JPEG"), encoded("JPEG")
    return outer[:2] + b"\xff\xe1" + struct.pack(">H", len(inner) + 2) + inner + outer[2:]


HOSTILE = {
    "empty": b"",
    "text": b"this is no image at all\n" * 20,
    "png magic only": b"\x89PNG\r\n\x1a\n",
    "png cut in the header": encoded("PNG")[:20],
    "png cut in the pixels": encoded("PNG")[:-30],
    "jpeg cut in the header": encoded("JPEG")[:100],
    "jpeg cut in the pixels": encoded("JPEG")[:-30],
    "jpeg with a thumbnail, cut": with_thumbnail()[:-30],
    "bomb": _bomb(),
    "gif cut": encoded("GIF")[:8],
    "webp cut": encoded("WEBP")[:20],
    "tiff of nonsense": b"II*\0" + b"\xff" * 60,
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
}
