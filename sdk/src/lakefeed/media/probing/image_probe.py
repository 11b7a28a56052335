"""Statistics of images. Pillow is imported when the first image is opened."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from functools import cache
from typing import Any, BinaryIO

from lakefeed.errors import FormatError, MissingDependencyError

# Other formats of Pillow run programs (EPS) or are not used for training. They are not opened.
_COMMON_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM")  # for other formats Pillow imports fifty modules
_OTHER_FORMATS = ("TIFF", "WEBP", "AVIF", "JPEG2000", "HEIF")
_END_MARKS = {"PNG": b"IEND", "JPEG": b"\xff\xd9", "MPO": b"\xff\xd9"}
_CHUNK_BYTES = 1 << 16
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXT_CHUNKS = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})

HEIF_PLUGIN = "pillow_heif"

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
    try:
        image = open_image(stream)
    except MissingDependencyError as error:
        if error.name != HEIF_PLUGIN:
            raise
        raise FormatError(str(error)) from error  # a plugin that the extra does not install: no reason to save nothing
    size, format_name = image.size, image.format
    # The position is after the header, and so after any thumbnail, which has an end mark of its own.
    mark = _END_MARKS.get(format_name)
    if mark is not None and not _contains(image.fp, mark):
        raise FormatError(f"the {format_name} file is truncated")
    return {"width": size[0], "height": size[1]}


def open_image(stream: BinaryIO, *, load: bool = False) -> Any:
    """Opens the image in ``stream`` as a ``PIL.Image.Image`` and reads its header; with ``load`` also its pixels.

    Raises:
        FormatError: the image is broken, not an image, or declares more pixels than Pillow decodes.
        MissingDependencyError: Pillow, or its plugin for HEIC, is not installed.
    """
    library = pillow()
    try:
        try:
            return _open(library, stream, load=load)
        except ValueError:  # Pillow refuses a PNG with much text, which no pixel depends on
            stream.seek(0)
            if stream.read(len(_PNG_SIGNATURE)) != _PNG_SIGNATURE:
                raise
            return _open(library, _without_text(stream), load=load)
    except (*DECODER_ERRORS, library.DecompressionBombError) as error:
        raise FormatError(error_reason(error)) from error


def _open(library: Any, stream: BinaryIO, *, load: bool) -> Any:
    try:
        image = library.open(stream, formats=_COMMON_FORMATS)
    except library.UnidentifiedImageError:
        library.init()
        if "HEIF" not in library.OPEN and _is_heif(stream):
            _register_heif()
        image = library.open(stream, formats=[name for name in _OTHER_FORMATS if name in library.OPEN])
    if load:
        image.load()
    return image


def _without_text(stream: BinaryIO) -> BinaryIO:
    """Returns a PNG without its text chunks and color profile."""
    stream.seek(0)
    data = memoryview(stream.read())
    parts = [data[: len(_PNG_SIGNATURE)]]
    position = len(_PNG_SIGNATURE)
    while position < len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if bytes(data[position + 4 : position + 8]) not in _TEXT_CHUNKS:
            parts.append(data[position:end])
        position = end
    return io.BytesIO(b"".join(parts))


def _is_heif(stream: BinaryIO) -> bool:
    stream.seek(0)
    head = stream.read(64)
    stream.seek(0)
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS and b"avif" not in head


def _register_heif() -> None:
    """Registers the plugin for HEIC with Pillow.

    Raises:
        MissingDependencyError: the plugin is not installed.
    """
    try:
        import pillow_heif  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise MissingDependencyError(
            "HEIC and HEIF images need a plugin of Pillow: pip install pillow-heif", name=HEIF_PLUGIN
        ) from error
    pillow_heif.register_heif_opener()


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
