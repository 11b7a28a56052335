from __future__ import annotations

import contextlib
import io

import numpy as np
import PIL.Image
import pytest

from lakefeed.errors import FormatError, UnsupportedError
from lakefeed.media import Image
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
