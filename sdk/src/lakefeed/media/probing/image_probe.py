"""Statistics of images. Pillow is imported when the first image is opened."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from functools import cache
from typing import Any, BinaryIO

from lakefeed.errors import FormatError, MissingDependencyError

# Other formats of Pillow run programs (EPS) or are not used for training. They are not opened.
_COMMON_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM")  # for other formats Pillow imports fifty modules
_OTHER_FORMATS = ("TIFF", "WEBP", "AVIF", "JPEG2000")
_END_MARKS = {"PNG": b"IEND", "JPEG": b"\xff\xd9", "MPO": b"\xff\xd9"}
_CHUNK_BYTES = 1 << 16

# Exceptions that decoders raise for malicious bytes.
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
    Warning,  # Pillow warns about suspicious files, and warnings may be errors
    struct.error,
    zlib.error,
)


def probe_image(stream: BinaryIO) -> Mapping[str, int]:
    """Reads width and height of an image from its header. An image without its end is broken.

    Raises:
        FormatError: the image is broken, not an image, or declares more pixels than Pillow decodes.
        MissingDependencyError: Pillow is not installed.
    """
    image = open_image(stream)
    size, format_name = image.size, image.format
    # The position is after the header, and so after any thumbnail, which has an end mark of its own.
    mark = _END_MARKS.get(format_name)
    if mark is not None and not _contains(stream, mark):
        raise FormatError(f"the {format_name} file is truncated")
    return {"width": size[0], "height": size[1]}


def open_image(stream: BinaryIO) -> Any:
    """Opens the image in ``stream`` as a ``PIL.Image.Image`` and reads its header.

    Raises:
        FormatError: the image is broken, not an image, or declares more pixels than Pillow decodes.
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
    """Returns the module PIL.Image.

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
    """Returns the reason of an error, always the same for the same bytes. Pillow's message has a memory address."""
    text = str(error) or type(error).__name__
    return "it is not an image that Pillow reads" if "cannot identify" in text else text


def _contains(stream: BinaryIO, mark: bytes) -> bool:
    tail = b""
    while chunk := stream.read(_CHUNK_BYTES):
        if mark in tail + chunk:
            return True
        tail = chunk[-len(mark) :]
    return False
