"""The media type for images. Pillow (the extra ``media``) is imported when the first image is opened."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from lakefeed.errors import FormatError, LakefeedError, MissingDependencyError, UnsupportedError
from lakefeed.media.handles import Handle
from lakefeed.media.media_type import MediaType
from lakefeed.media.probing.image_probe import HEIF_PLUGIN, open_image, probe_image

if TYPE_CHECKING:
    import PIL.Image

_CONTENT_TYPES = {
    ".apng": "image/apng",
    ".avif": "image/avif",
    ".bmp": "image/bmp",
    ".gif": "image/gif",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".jp2": "image/jp2",
    ".jpe": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".pgm": "image/x-portable-graymap",
    ".png": "image/png",
    ".ppm": "image/x-portable-pixmap",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".webp": "image/webp",
}
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2"),
)
_BRANDS = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis"), "image/heic"),
    **dict.fromkeys((b"mif1", b"msf1"), "image/heif"),
}
_BITMAP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})  # ordinary text may begin with "BM" too

_NATIVE_MODES = frozenset({"L", "LA", "RGB", "RGBA"})
_MODE_CONVERSIONS = {
    "1": "L",
    "P": "RGB",
    "PA": "RGBA",
    "La": "LA",
    "RGBa": "RGBA",
    "RGBX": "RGB",
    "CMYK": "RGB",
    "YCbCr": "RGB",
    "HSV": "RGB",
}


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Image(Handle):
    """An image.

    Attributes:
        width: the width in pixels as stored, without EXIF rotation; None if it could not be read.
        height: the height in pixels as stored; None if it could not be read.

    Example:
        >>> import PIL.Image
        >>> PIL.Image.new("RGB", (4, 3)).save("cat.png")
        >>> Image("cat.png").numpy().shape
        (3, 4, 3)
    """

    media: ClassVar[str] = "image"

    width: int | None = None
    height: int | None = None

    def pil(self) -> PIL.Image.Image:
        """Decodes the image.

        Raises:
            FormatError: Pillow cannot read the bytes, or the image exceeds Pillow's limit of pixels.
            MissingDependencyError: Pillow is not installed, or its plugin for HEIC (``pillow-heif``).
            FileError: the file cannot be read.
        """
        content = io.BytesIO(self.bytes())
        try:
            image: PIL.Image.Image = open_image(content, load=True)
        except FormatError as error:
            raise FormatError(f"{self!r} cannot be decoded: {error}") from error
        except MissingDependencyError as error:
            if error.name != HEIF_PLUGIN:
                raise
            raise MissingDependencyError(f"{self!r}: {error}", name=error.name) from error
        return image

    def numpy(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Decodes the pixels.

        Palette images become RGB, or RGBA if they are transparent. Black and white become 0 and 255. Of 16-bit pixels
        the upper 8 bits are returned. The array is a writable copy.

        Returns:
            The pixels as uint8, of shape (height, width) for grey images, else (height, width, channels) with 2, 3 or
            4 channels.

        Raises:
            UnsupportedError: the image has 32-bit pixels, which have no defined conversion to uint8; use ``pil()``.
            FormatError: Pillow cannot read the bytes, or the image exceeds Pillow's limit of pixels.
            MissingDependencyError: Pillow is not installed.
            FileError: the file cannot be read.
        """
        image = self.pil()
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):  # PGM has at most 16 bits
            return (np.array(image) >> 8).astype(np.uint8)
        mode = "RGBA" if image.mode == "P" and "transparency" in image.info else _MODE_CONVERSIONS.get(image.mode)
        if image.mode in _NATIVE_MODES:
            return np.array(image)
        if mode is None:
            raise UnsupportedError(
                f"{self!r} has pixels of mode {image.mode!r}, which cannot be converted to uint8; use pil()"
            )
        return np.array(image.convert(mode))

    def _details(self) -> list[str]:
        return [f"{self.width}x{self.height}"] if self.width is not None else []

    def _repr_html_(self) -> str:
        from lakefeed.media.thumbnails import thumbnail_html

        try:
            return thumbnail_html(self.pil(), repr(self))
        except (LakefeedError, OSError, ValueError) as error:
            return self._html_repr(error)


def sniff(head: bytes) -> str | None:
    """Returns the content type of the image that begins with ``head``; None if it is not a known image format.

    Example:
        >>> sniff(b"GIF89a..."), sniff(b"BMW drivers")
        ('image/gif', None)
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp":
        return _BRANDS[b"avif"] if b"avif" in head[16:] else _BRANDS.get(head[8:12])
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BITMAP_HEADERS:
        return "image/bmp"
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)


IMAGE = MediaType(
    name="image",
    handle=Image,
    stat_fields=(pa.field("width", pa.int32()), pa.field("height", pa.int32())),
    content_types=_CONTENT_TYPES,
    sniff=sniff,
    probe=probe_image,
)
