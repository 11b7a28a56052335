from __future__ import annotations

import contextlib
import io

import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest

from lakefeed.errors import FormatError, MissingDependencyError, UnsupportedError
from lakefeed.media import Image
from lakefeed.media.image import sniff
from lakefeed.media.probing.image_probe import probe_image
from tests.sdk.media.pictures import HEIGHT, HOSTILE, WIDTH, encoded, pixels, with_thumbnail


def image(picture: PIL.Image.Image, format_name: str) -> Image:
    target = io.BytesIO()
    picture.save(target, format_name)
    return Image(data=target.getvalue())


@pytest.mark.parametrize(
    ("mode", "format_name", "shape"),
    [
        ("L", "PNG", (HEIGHT, WIDTH)),
        ("1", "PNG", (HEIGHT, WIDTH)),
        ("LA", "PNG", (HEIGHT, WIDTH, 2)),
        ("RGB", "PNG", (HEIGHT, WIDTH, 3)),
        ("RGBA", "PNG", (HEIGHT, WIDTH, 4)),
        ("P", "PNG", (HEIGHT, WIDTH, 3)),
        ("CMYK", "JPEG", (HEIGHT, WIDTH, 3)),
        ("YCbCr", "JPEG", (HEIGHT, WIDTH, 3)),
    ],
)
def test_pixels(mode: str, format_name: str, shape: tuple[int, ...]) -> None:
    array = image(pixels(mode), format_name).numpy()
    assert (array.shape, array.dtype) == (shape, np.uint8)
    assert array.flags.writeable


def test_pixels_are_those_that_were_saved() -> None:
    assert np.array_equal(image(pixels(), "PNG").numpy(), np.asarray(pixels()))
    assert set(np.unique(image(pixels("1"), "PNG").numpy())) == {0, 255}


def test_a_transparent_palette_becomes_rgba() -> None:
    picture = pixels("P")
    picture.info["transparency"] = 0
    assert image(picture, "PNG").numpy().shape == (HEIGHT, WIDTH, 4)


def test_of_sixteen_bits_the_upper_eight_are_kept() -> None:
    deep = np.array([[0, 255, 256, 65_535]], dtype=np.uint16)
    assert image(PIL.Image.fromarray(deep), "PNG").numpy().tolist() == [[0, 0, 1, 255]]


def test_grey_maps_of_sixteen_bits() -> None:
    deep = np.array([[0, 255, 256, 65_535]], dtype=">u2")
    binary = Image(data=b"P5\n4 1\n65535\n" + deep.tobytes())
    assert binary.numpy().tolist() == [[0, 0, 1, 255]]
    assert Image(data=b"P2\n4 1\n65535\n0 255 256 65535\n").numpy().tolist() == [[0, 0, 1, 255]]
    assert Image(data=b"P5\n2 1\n4095\n" + deep[:, 2:].tobytes()[:1] + b"\0\x0f\xff").numpy().tolist() == [[16, 255]]
    assert probe_image(io.BytesIO(binary.bytes())) == {"width": 4, "height": 1}


def test_png_with_much_text() -> None:
    """Programs that draw pictures write what they drew into the text; Pillow reads a megabyte of it."""
    pictures: list[bytes] = []
    for compressed in (False, True):
        text = PIL.PngImagePlugin.PngInfo()
        text.add_text("recipe", "x" * (2 << 20), zip=compressed)
        text.add_itxt("IEND", "x" * (2 << 20), zip=compressed)
        target = io.BytesIO()
        pixels().save(target, "PNG", pnginfo=text)
        pictures.append(target.getvalue())
    target = io.BytesIO()
    pixels().save(target, "PNG", icc_profile=bytes(3 << 20))
    after = (
        pictures[1][: 8 + 25] + encoded()[8 + 25 : -12] + pictures[1][8 + 25 :].split(b"IDAT")[0][:-4] + encoded()[-12:]
    )
    for content in (*pictures, target.getvalue(), after):
        assert probe_image(io.BytesIO(content)) == {"width": WIDTH, "height": HEIGHT}
        assert np.array_equal(Image(data=content).numpy(), np.asarray(pixels()))
        with pytest.raises(FormatError, match="truncated"):
            probe_image(io.BytesIO(content[:-40])) if content is not after else probe_image(io.BytesIO(encoded()[:-30]))


def test_heic_names_the_plugin() -> None:
    for brand, kind in ((b"heic", "image/heic"), (b"mif1", "image/heif")):
        content = b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic" + bytes(100)
        assert sniff(content) == kind
        with pytest.raises(MissingDependencyError, match="pip install pillow-heif"):
            Image(data=content).numpy()
        with pytest.raises(FormatError, match="pip install pillow-heif"):
            probe_image(io.BytesIO(content))
    assert sniff(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf") == "image/avif"


def test_pixels_that_do_not_fit() -> None:
    with pytest.raises(UnsupportedError, match=r"mode 'F'.*use pil\(\)"):
        image(pixels("L").convert("F"), "TIFF").numpy()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes(name: str) -> None:
    for read in (lambda: probe_image(io.BytesIO(HOSTILE[name])), Image(data=HOSTILE[name]).pil):
        with pytest.raises(FormatError):
            read()


def test_random_damage_never_raises_anything_else() -> None:
    randomness = np.random.default_rng(0)
    for format_name in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000"):
        whole = np.frombuffer(encoded(format_name), np.uint8)
        for _ in range(60):
            damaged = whole[: randomness.integers(1, len(whole) + 1)].copy()
            places = randomness.integers(0, len(damaged), 4)
            damaged[places] = randomness.integers(0, 256, 4)
            with contextlib.suppress(FormatError):
                probe_image(io.BytesIO(damaged.tobytes()))
            with contextlib.suppress(FormatError):
                Image(data=damaged.tobytes()).numpy()


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM"])
def test_probe_reads_the_header_only(format_name: str) -> None:
    assert probe_image(io.BytesIO(encoded(format_name))) == {"width": WIDTH, "height": HEIGHT}


def test_what_follows_the_end_of_an_image_does_no_harm() -> None:
    """Phones append a video to a JPEG."""
    for whole in (encoded("PNG"), encoded("JPEG"), with_thumbnail()):
        assert probe_image(io.BytesIO(whole + b"\0" * 200_000)) == {"width": WIDTH, "height": HEIGHT}
