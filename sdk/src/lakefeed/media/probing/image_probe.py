"""Width and height of images, through Pillow, which is imported when the first image is opened."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from functools import cache
from typing import Any, BinaryIO

from lakefeed.errors import FormatError, MissingDependencyError

# Pillow also reads formats that run other programs (EPS) or that nobody trains on: not from a table's bytes.
_COMMON_FORMATS = (
    "PNG",
    "JPEG",
    "GIF",
    "BMP",
    "PPM",
)  # which Pillow has at hand; for the others it imports fifty modules
_OTHER_FORMATS = ("TIFF", "WEBP", "AVIF", "JPEG2000")
_END_MARKS = {"PNG": b"IEND", "JPEG": b"\xff\xd9", "MPO": b"\xff\xd9"}
_CHUNK_BYTES = 1 << 16

# Whatever a decoder raises on bytes that were made to break it.
DECODER_ERRORS = (
    OSError,
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    SyntaxError,
    RuntimeError,
    MemoryError,
    Warning,  # Pillow warns of suspicious files; some programs turn warnings into errors
    struct.error,
    zlib.error,
)


def probe_image(stream: BinaryIO) -> Mapping[str, int]:
    """Width and height of the image in ``stream``, from its header; an image whose end is missing counts as broken.

    Raises:
        FormatError: it is broken, no image at all, or declares more pixels than Pillow would ever decode.
        MissingDependencyError: Pillow is not installed.
    """
    image = open_image(stream)
    size, format_name = image.size, image.format
    # The header has been read, and with it any thumbnail that has an end mark of its own.
    mark = _END_MARKS.get(format_name)
    if mark is not None and not _contains(stream, mark):
        raise FormatError(f"the {format_name} is cut short")
    return {"width": size[0], "height": size[1]}


def open_image(stream: BinaryIO) -> Any:
    """The image in ``stream``, a ``PIL.Image.Image`` of which the header has been read.

    Raises:
        FormatError: it is broken, no image at all, or declares more pixels than Pillow would ever decode.
        MissingDependencyError: Pillow is not installed.
    """
    library = pillow()
    try:
        try:
            return library.open(stream, formats=_COMMON_FORMATS)
        except library.UnidentifiedImageError:
            library.init()
            return library.open(stream, formats=[name for name in _OTHER_FORMATS if name in library.OPEN])
    except (*DECODER_ERRORS, library.DecompressionBombError) as error:
        raise FormatError(error_reason(error)) from error


@cache
def pillow() -> Any:
    """The module PIL.Image.

    Raises:
        MissingDependencyError: Pillow is not installed.
    """
    try:
        import PIL.Image
    except ImportError as error:
        raise MissingDependencyError("images need Pillow: pip install 'lakefeed[media]'") from error
    return PIL.Image


load = pillow


def error_reason(error: BaseException) -> str:
    """Why Pillow gave up, the same for the same bytes: Pillow itself names the address of the stream."""
    text = str(error) or type(error).__name__
    return "it is no image that Pillow reads" if "cannot identify" in text else text


def _contains(stream: BinaryIO, mark: bytes) -> bool:
    tail = b""
    while piece := stream.read(_CHUNK_BYTES):
        if mark in tail + piece:
            return True
        tail = piece[-len(mark) :]
    return False
